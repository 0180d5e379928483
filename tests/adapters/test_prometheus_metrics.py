import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.prometheus_metrics import LABELS, PrometheusMetrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


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
    metrics.count("messages_published")
    metrics.count("messages_published", 2.5)
    assert samples(metrics)["hubbub_messages_published_total", ()] == 3.5


def test_what_there_is_can_be_read_by_name() -> None:
    metrics = PrometheusMetrics()
    metrics.count("errors", label="bad_frame")
    metrics.count("errors", 2, label="internal")
    metrics.gauge("rooms", lambda: 3)
    assert metrics.read() == {"errors": 3.0, "rooms": 3.0}


@pytest.mark.parametrize(("name", "label"), LABELS.items())
def test_the_label_of_a_known_counter_has_its_name(name: str, label: str) -> None:
    metrics = PrometheusMetrics()
    metrics.count(name, label="a")
    metrics.count(name, label="b")
    metrics.count(name, label="b")
    found = samples(metrics)
    assert found[f"hubbub_{name}_total", ((label, "a"),)] == 1
    assert found[f"hubbub_{name}_total", ((label, "b"),)] == 2


def test_a_labelled_counter_nobody_listed_is_shown_all_the_same() -> None:
    metrics = PrometheusMetrics()
    metrics.count("surprises", label="nice")
    assert samples(metrics)["hubbub_surprises_total", (("kind", "nice"),)] == 1


def test_a_counter_with_and_without_a_label_is_one_family() -> None:
    metrics = PrometheusMetrics()
    metrics.count("errors", 3)
    metrics.count("errors", label="internal")
    found = samples(metrics)
    assert found["hubbub_errors_total", (("code", ""),)] == 3
    assert found["hubbub_errors_total", (("code", "internal"),)] == 1


def test_a_label_value_cannot_break_the_format() -> None:
    metrics = PrometheusMetrics()
    evil = 'a"} 1\nhubbub_fake_total 9\\'
    metrics.count("errors", label=evil)
    found = samples(metrics)
    assert found["hubbub_errors_total", (("code", evil),)] == 1
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


@pytest.mark.parametrize("name", ["", "Rooms", "room-count", "rooms\n", "1st", "rooms{a}"])
def test_a_name_prometheus_would_refuse_is_refused_at_once(name: str) -> None:
    metrics = PrometheusMetrics()
    with pytest.raises(ValueError, match="not the name of a metric"):
        metrics.count(name)
    with pytest.raises(ValueError, match="not the name of a metric"):
        metrics.gauge(name, lambda: 0)


def test_two_instances_do_not_share_counts() -> None:
    one, other = PrometheusMetrics(), PrometheusMetrics()
    one.count("messages_published")
    assert ("hubbub_messages_published_total", ()) not in samples(other)


def test_the_process_and_python_are_described() -> None:
    names = {name for name, _ in samples(PrometheusMetrics())}
    assert "python_info" in names
    assert any(name.startswith("python_gc_") for name in names)


def test_the_content_type_is_that_of_the_text_format() -> None:
    body, content_type = PrometheusMetrics().render()
    assert content_type.startswith("text/plain; version=")
    assert body.endswith(b"\n")
