"""Metrics in the Prometheus text format."""

import re
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from application.ports.metrics import NOBODY, Metrics

_PREFIX = "hubbub_"
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")

# What the one label of a counter is called; a counter that is not listed calls it `kind`.
LABELS = {
    "disconnects": "code",
    "errors": "code",
    "key_fetches": "outcome",
    "recoveries": "outcome",
    "resyncs": "cause",
}
_OTHER_LABEL = "kind"


class PrometheusMetrics(Metrics):
    """Counts in a dict; the library only sees it when somebody scrapes.

    Each instance has a registry of its own, so that two nodes in one process do not meet.
    `hubbub_<name>_total` is a counter, `hubbub_<name>` a gauge.
    """

    __slots__ = ("_counts", "_gauges", "_node", "_registry")

    def __init__(self, node: str = "") -> None:
        """`node` is the name of the one that counts."""
        self._node = node
        self._counts: dict[tuple[str, str], float] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Snapshot(self._counts, self._gauges))
        Info("hubbub_node", "The process that answers.", registry=self._registry).info(
            {"node": node}
        )
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def count(self, name: str, amount: float = 1, label: str = "") -> None:
        """See the port. Raises ValueError the first time for a name Prometheus would refuse."""
        key = (name, label)
        try:
            self._counts[key] += amount
        except KeyError:
            _check(name)
            self._counts[key] = amount

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """See the port. A later reader of the same name takes the place of the earlier one."""
        _check(name)
        self._gauges[name] = read

    def read(self) -> Mapping[str, float]:
        """See the port."""
        found = {name: float(read()) for name, read in self._gauges.items()}
        for (name, _), value in self._counts.items():
            found[name] = found.get(name, 0.0) + value
        return found

    def render(self, others: Mapping[str, bytes] = NOBODY) -> tuple[bytes, str]:
        """See the port."""
        own = generate_latest(self._registry)
        if others:
            own = generate_latest(_Merged({self._node: own, **others}))
        return own, CONTENT_TYPE_LATEST


class _Merged(CollectorRegistry):
    """What several nodes rendered as one exposition, each value with its node as a label."""

    def __init__(self, rendered: Mapping[str, bytes]) -> None:
        super().__init__(auto_describe=False)
        self._rendered = rendered

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for node, text in self._rendered.items():
            for found in text_string_to_metric_families(text.decode()):
                family = families.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                for sample in found.samples:
                    labels = {**sample.labels, "node": node}
                    family.samples.append(sample._replace(labels=labels))
        return families.values()


class _Snapshot(Collector):
    """Builds metric families out of the counts and gauges as they are now."""

    def __init__(
        self, counts: dict[tuple[str, str], float], gauges: dict[str, Callable[[], float]]
    ) -> None:
        self._counts = counts
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily] = {}
        for (name, label), value in sorted(self._counts.items()):
            family = families.get(name)
            if family is None:
                labels = [LABELS.get(name, _OTHER_LABEL)] if self._labelled(name) else []
                family = CounterMetricFamily(_PREFIX + name, _help(name), labels=labels)
                families[name] = family
            family.add_metric([label] if self._labelled(name) else [], value)
        yield from families.values()
        for name, read in sorted(self._gauges.items()):
            yield GaugeMetricFamily(_PREFIX + name, _help(name), value=float(read()))

    def _labelled(self, name: str) -> bool:
        return any(known == name and label for known, label in self._counts)


def _help(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."


def _check(name: str) -> None:
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is not the name of a metric")
