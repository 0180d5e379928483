"""Metrics in the Prometheus text format."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from application.measures import BOUNDS, MEASURES, Kind, Measure
from application.ports.metrics import NOBODY, Metrics

PREFIX = "hubbub_"
_EDGES = [*map(str, BOUNDS), "+Inf"]


class PrometheusMetrics(Metrics):
    """Counts in a dict; the library only sees it when somebody scrapes.

    Each instance has a registry of its own, so that two nodes in one process do not meet.
    `hubbub_<name>_total` is a counter, `hubbub_<name>` anything else.
    """

    __slots__ = ("_counts", "_histograms", "_node", "_registry", "_tally")

    def __init__(self, node: str = "", measures: Mapping[str, Measure] = MEASURES) -> None:
        """`node` is the name of the one that counts."""
        self._node = node
        self._tally = _Tally(measures)
        self._counts = self._tally.counts
        self._histograms = self._tally.histograms
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._tally)
        Info("hubbub_node", "The process that answers.", registry=self._registry).info(
            {"node": node}
        )
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def count(self, name: str, amount: float = 1, label: str = "") -> None:
        try:
            self._counts[name, label] += amount
        except KeyError:
            self._tally.begin(name, label, amount)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """See the port. A later reader of the same name takes the place of the earlier one."""
        self._tally.measure(name, Kind.GAUGE)
        self._tally.gauges[name] = read

    def observe(self, name: str, seconds: float) -> None:
        try:
            histogram = self._histograms[name]
        except KeyError:
            self._tally.measure(name, Kind.HISTOGRAM)
            raise
        histogram.counts[bisect_left(BOUNDS, seconds)] += 1
        histogram.sum += seconds

    def read(self, *names: str) -> Mapping[str, float]:
        """See the port."""
        gauges = self._tally.gauges
        found = {name: float(gauges[name]()) for name in names if name in gauges}
        for (name, _), value in self._counts.items():
            if name in names:
                found[name] = found.get(name, 0.0) + value
        return found

    def render(self, others: Mapping[str, bytes] = NOBODY) -> tuple[bytes, str]:
        own = generate_latest(self._registry)
        if others:
            own = generate_latest(_Merged({self._node: own, **others}))
        return own, CONTENT_TYPE_LATEST


class _Histogram:
    """`counts`: how many there were up to each bound, and above the one before it."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0


class _Tally(Collector):
    """All numbers as they are now, and how the library is told of them."""

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = measures
        self.gauges: dict[str, Callable[[], float]] = {}
        self.counts: dict[tuple[str, str], float] = {}
        self.histograms: dict[str, _Histogram] = {}
        for name, measure in measures.items():
            if measure.kind is Kind.COUNTER:
                values = measure.values if measure.label else ("",)
                self.counts.update(((name, value), 0) for value in values)
            elif measure.kind is Kind.HISTOGRAM:
                self.histograms[name] = _Histogram()

    def measure(self, name: str, kind: Kind) -> Measure:
        """Raises ValueError when there is none of that name and kind."""
        found = self._measures.get(name)
        if found is None or found.kind is not kind:
            raise ValueError(f"{name!r} is not the name of a {kind.value}")
        return found

    def begin(self, name: str, label: str, amount: float) -> None:
        """Count under a value of a label that was not known before."""
        measure = self.measure(name, Kind.COUNTER)
        if bool(label) != bool(measure.label):
            raise ValueError(f"{name!r} is counted by {measure.label or 'no label'}")
        self.counts[name, label] = amount

    def collect(self) -> Iterable[Metric]:
        yield from self._counters()
        for name, read in sorted(self.gauges.items()):
            text = self._measures[name].help
            yield GaugeMetricFamily(PREFIX + name, text, value=float(read()))
        for name, histogram in sorted(self.histograms.items()):
            buckets = list(zip(_EDGES, accumulate(histogram.counts), strict=True))
            text = self._measures[name].help
            yield HistogramMetricFamily(PREFIX + name, text, buckets, histogram.sum)

    def _counters(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily] = {}
        for (name, value), amount in sorted(self.counts.items()):
            measure = self._measures[name]
            labels = [measure.label] if measure.label else []
            family = families.get(name)
            if family is None:
                family = CounterMetricFamily(PREFIX + name, measure.help, labels=labels)
                families[name] = family
            family.add_metric([value] if labels else [], amount)
        yield from families.values()


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
