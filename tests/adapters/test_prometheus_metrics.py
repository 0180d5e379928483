import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.prometheus_metrics import PrometheusMetrics
from application.measures import BOUNDS, MEASURES, Kind, local

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

COUNTERS = [name for name, measure in MEASURES.items() if measure.kind is Kind.COUNTER]
HISTOGRAMS = [name for name, measure in MEASURES.items() if measure.kind is Kind.HISTOGRAM]


def samples(metrics: PrometheusMetrics) -> Samples:
    """What a scraper reads, by name and labels."""
    body, _ = metrics.render()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_a_counter_adds_up() -> None:
    metrics = PrometheusMetrics()
    metrics.count("conflated")
    metrics.count("conflated", 2.5)
    assert samples(metrics)["hubbub_conflated_total", ()] == 3.5


def _nobody_asks() -> float:
    raise AssertionError("read all the same")


def test_what_there_is_can_be_read_by_name() -> None:
    metrics = PrometheusMetrics()
    metrics.count("disconnects", label="1000")
    metrics.count("disconnects", 2, label="4102")
    metrics.gauge("rooms", lambda: 3)
    metrics.gauge("sessions", _nobody_asks)
    found = metrics.read("disconnects", "rooms", "conflated")
    assert found == {"disconnects": 3.0, "rooms": 3.0, "conflated": 0.0}


@pytest.mark.parametrize("name", COUNTERS)
def test_what_is_known_of_a_counter_is_shown_from_the_start(name: str) -> None:
    label, values = MEASURES[name].label, MEASURES[name].values
    found = samples(PrometheusMetrics())
    shown = {labels for (sample, labels) in found if sample == f"hubbub_{name}_total"}
    assert shown == ({((label, value),) for value in values} if label else {()})
    assert {found[f"hubbub_{name}_total", labels] for labels in shown} == {0}


def test_a_value_that_nobody_foresaw_is_shown_all_the_same() -> None:
    metrics = PrometheusMetrics()
    metrics.count("disconnects", label="4242")
    metrics.count("disconnects", label="4242")
    assert samples(metrics)["hubbub_disconnects_total", (("code", "4242"),)] == 2


@pytest.mark.parametrize(("name", "label"), [("conflated", "why"), ("disconnects", "")])
def test_a_counter_has_its_label_or_none(name: str, label: str) -> None:
    with pytest.raises(ValueError, match=name):
        PrometheusMetrics().count(name, label=label)


def test_a_label_value_cannot_break_the_format() -> None:
    metrics = PrometheusMetrics()
    evil = 'a"} 1\nhubbub_fake_total 9\\'
    metrics.count("disconnects", label=evil)
    found = samples(metrics)
    assert found["hubbub_disconnects_total", (("code", evil),)] == 1
    assert "hubbub_fake_total" not in {name for name, _ in found}


def test_a_gauge_is_read_when_somebody_looks() -> None:
    metrics = PrometheusMetrics()
    rooms: list[str] = []
    metrics.gauge("rooms", lambda: len(rooms))
    assert samples(metrics)["hubbub_rooms", ()] == 0
    rooms.extend("ab")
    assert samples(metrics)["hubbub_rooms", ()] == 2


def test_the_latest_reader_of_a_gauge_counts() -> None:
    metrics = PrometheusMetrics()
    metrics.gauge("rooms", lambda: 1)
    metrics.gauge("rooms", lambda: 2)
    assert samples(metrics)["hubbub_rooms", ()] == 2


def buckets(metrics: PrometheusMetrics, name: str) -> dict[float, float]:
    """Upper bound to how many there were up to it."""
    return {
        float(dict(labels)["le"]): value
        for (sample, labels), value in samples(metrics).items()
        if sample == f"hubbub_{name}_bucket"
    }


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_counts_up_to_each_bound(name: str) -> None:
    metrics = PrometheusMetrics()
    for seconds in (0.0, 0.001, 0.001_1, 5.0, 60.0):
        metrics.observe(name, seconds)
    found = buckets(metrics, name)
    assert sorted(found) == [*BOUNDS, float("inf")]
    assert found[0.000_5] == 1
    assert found[0.001] == 2  # a bound is in its bucket
    assert found[0.002_5] == 3
    assert found[2.5] == 3
    assert (found[5.0], found[float("inf")]) == (4, 5)
    assert samples(metrics)[f"hubbub_{name}_count", ()] == 5
    assert samples(metrics)[f"hubbub_{name}_sum", ()] == pytest.approx(65.0021)


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_is_shown_before_anything_was_measured(name: str) -> None:
    assert set(buckets(PrometheusMetrics(), name).values()) == {0}


@pytest.mark.parametrize("name", ["", "Rooms", "nobody_knows", "rooms\n"])
def test_a_name_that_is_not_in_the_table_is_refused(name: str) -> None:
    metrics = PrometheusMetrics()
    with pytest.raises(ValueError, match="not the name of a counter"):
        metrics.count(name)
    with pytest.raises(ValueError, match="not the name of a gauge"):
        metrics.gauge(name, lambda: 0)
    with pytest.raises(ValueError, match="not the name of a histogram"):
        metrics.observe(name, 0)


def test_a_name_of_another_kind_is_refused() -> None:
    metrics = PrometheusMetrics()
    with pytest.raises(ValueError, match="rooms"):
        metrics.count("rooms")
    with pytest.raises(ValueError, match="conflated"):
        metrics.gauge("conflated", lambda: 0)
    with pytest.raises(ValueError, match="conflated"):
        metrics.observe("conflated", 0)


def test_what_only_a_shared_store_has_is_not_there_without_one() -> None:
    alone = {name for name, _ in samples(PrometheusMetrics("", local()))}
    shared = {name for name, _ in samples(PrometheusMetrics())}
    assert "hubbub_publish_seconds_count" in alone & shared
    assert {"hubbub_broker_lag_seconds_count", "hubbub_feed_losses_total"} <= shared - alone


def test_every_measure_says_what_it_is() -> None:
    body = PrometheusMetrics().render()[0].decode()
    for name in (*COUNTERS, *HISTOGRAMS):
        ending = "_total" if name in COUNTERS else ""
        assert f"# HELP hubbub_{name}{ending} {MEASURES[name].help}\n" in body
        assert len(MEASURES[name].help.split()) > 4


def test_two_instances_do_not_share_counts() -> None:
    one, other = PrometheusMetrics(), PrometheusMetrics()
    one.count("conflated")
    one.observe("publish_seconds", 1)
    assert samples(other)["hubbub_conflated_total", ()] == 0
    assert samples(other)["hubbub_publish_seconds_count", ()] == 0


def test_the_process_and_python_are_described() -> None:
    names = {name for name, _ in samples(PrometheusMetrics())}
    assert "python_info" in names
    assert any(name.startswith("python_gc_") for name in names)


def test_the_content_type_is_that_of_the_text_format() -> None:
    body, content_type = PrometheusMetrics().render()
    assert content_type.startswith("text/plain; version=")
    assert body.endswith(b"\n")
