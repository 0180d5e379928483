"""The dashboard and the alerts of deploy/, held against what a server that was used shows."""

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggregateExpr, Expr, MatchOp, VectorSelector

from application.measures import MEASURES
from entrypoints.settings import Settings
from tests.running_server import RunningServer, fit_for_tests

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
RULES = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
FROM_PROMETHEUS = {"job", "instance"}  # labels that the scrape adds
OF_WORKERS = {"node"}  # and one that several workers add

Exposed = dict[str, dict[str, set[str]]]
"""Name of a sample to its labels, and their values."""


@pytest.fixture
async def exposed(redis_url: str) -> AsyncIterator[Exposed]:
    """What a node over Redis shows after somebody came, spoke, was too fast and left."""
    limits = {"messages_per_second": 1, "messages_burst": 2}
    settings = Settings.model_validate(
        {"port": 0, "backend": "redis", "redis_url": redis_url, "limits": limits}
    )
    with fit_for_tests():
        server = RunningServer(settings)
        await server.start()
        try:
            ann, _ = await server.member("ann", "tea", history=1)
            bob, _ = await server.member("bob", "tea")
            for _ in range(3):
                await bob.ask("publish", room="tea", data=1)
            await ann.expect("join")
            await ann.expect("message")
            await bob.close()
            await server.lost(1)
            yield samples((await server.get("/metrics")).text)
        finally:
            await server.stop()


def samples(text: str) -> Exposed:
    found: Exposed = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for name, value in sample.labels.items():
                labels[name].add(value)
    return found


def selectors(expression: Expr) -> list[VectorSelector]:
    found: list[VectorSelector] = []

    def note(part: Expr) -> None:
        if isinstance(part, VectorSelector):
            found.append(part)

    promql_parser.walk(expression, pre_visit=note)
    return found


def grouped(expression: Expr) -> set[str]:
    """All labels that something is grouped by."""
    found: set[str] = set()

    def note(part: Expr) -> None:
        if isinstance(part, AggregateExpr) and part.modifier is not None:
            found.update(part.modifier.labels)

    promql_parser.walk(expression, pre_visit=note)
    return found


def complaints(text: str, exposed: Exposed) -> Iterator[str]:
    """What an expression asks for and nobody shows."""
    expression = promql_parser.parse(text)
    asked = selectors(expression)
    if not asked:
        yield "no metric at all"
    known = FROM_PROMETHEUS | OF_WORKERS
    for selector in asked:
        labels = exposed.get(selector.name or "")
        if labels is None:
            yield f"no metric {selector.name}"
            continue
        known = known | set(labels)
        for matcher in selector.matchers.matchers:
            if matcher.name in FROM_PROMETHEUS:
                continue
            if matcher.op == MatchOp.Equal:
                wanted = {re.escape(matcher.value)}
            else:
                wanted = set(matcher.value.split("|"))
            for pattern in wanted:
                if not any(re.fullmatch(pattern, value) for value in labels.get(matcher.name, ())):
                    yield f"no {matcher.name} {pattern} of {selector.name}"
    for label in grouped(expression) - known:
        yield f"no label {label}"


def filled_in(text: str) -> str:
    """An expression of the dashboard, with its variables as Grafana would."""
    values = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}
    for name, value in values.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def targets() -> list[tuple[str, dict[str, Any]]]:
    return [(panel["title"], target) for panel in panels() for target in panel["targets"]]


async def test_the_dashboard_asks_for_what_there_is(exposed: Exposed) -> None:
    wrong = [
        (title, complaint)
        for title, target in targets()
        for complaint in complaints(filled_in(target["expr"]), exposed)
    ]
    assert wrong == []


async def test_the_alerts_ask_for_what_there_is(exposed: Exposed) -> None:
    wrong = [
        (rule["alert"], complaint)
        for rule in RULES
        for complaint in complaints(rule["expr"], exposed)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("hubbub_session", "no metric hubbub_session"),
        ('hubbub_disconnects_total{code="4202"}', "no code 4202 of hubbub_disconnects_total"),
        ('hubbub_recoveries_total{outcome=~"gap|lost"}', "no outcome lost of"),
        ('hubbub_sessions{room="tea"}', "no room tea of hubbub_sessions"),
        ("sum by (user) (hubbub_sessions)", "no label user"),
        ("vector(1) > 0", "no metric at all"),
    ],
)
async def test_what_there_is_not_is_noticed(
    expression: str, complaint: str, exposed: Exposed
) -> None:
    (found,) = complaints(expression, exposed)
    assert found.startswith(complaint)


async def test_what_happened_was_counted(exposed: Exposed) -> None:
    # The exercise must reach what is measured, or the names prove little.
    assert exposed["hubbub_broker_lag_seconds_bucket"]["le"] >= {"0.001", "+Inf"}
    assert "messages" in exposed["hubbub_rate_limited_total"]["limit"]


def test_everything_that_is_measured_is_on_the_dashboard() -> None:
    shown = {
        selector.name or ""
        for _, target in targets()
        for selector in selectors(promql_parser.parse(filled_in(target["expr"])))
    }
    bare = {re.sub(r"^hubbub_|_total$|_bucket$", "", name) for name in shown}
    assert set(MEASURES) <= bare


def test_legends_name_labels_that_are_there() -> None:
    always = FROM_PROMETHEUS | OF_WORKERS
    for title, target in targets():
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        expression = promql_parser.parse(filled_in(target["expr"]))
        assert named <= (grouped(expression) or always), title


def test_the_variables_of_the_dashboard_lead_to_a_metric() -> None:
    queries = [
        variable["definition"]
        for variable in DASHBOARD["templating"]["list"]
        if variable["type"] == "query"
    ]
    assert len(queries) == 2
    for query in queries:
        assert re.fullmatch(r"label_values\(hubbub_node_info(\{.*\})?, (job|instance)\)", query)


def test_panels_have_a_place_and_a_description_each() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["description"] for panel in panels())
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["do"]
    named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    kept = grouped(promql_parser.parse(rule["expr"])) or FROM_PROMETHEUS
    assert named <= kept
