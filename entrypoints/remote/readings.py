"""Metrics as they were at two moments, and what happened between them. Of nodes that were seen at
both: behind one address another one may answer each time. What a server does not tell is None."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

_INFO = "hubbub_node_info"
_UNNAMED = "?"

Labels = tuple[tuple[str, str], ...]


class NotMetrics(Exception):
    """The text is no exposition of a hubbub."""


class Reading(NamedTuple):
    """`at` is seconds of a clock that only goes forward; `nodes` has the samples of each node by
    name and labels."""

    at: float
    nodes: Mapping[str, Mapping[tuple[str, Labels], float]]


def read(text: str, at: float) -> Reading:
    """Raises NotMetrics."""
    try:
        samples = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("hubbub_")
        ]
    except (ValueError, KeyError, IndexError):
        raise NotMetrics from None
    if not samples:
        raise NotMetrics
    alone = next((s.labels.get("node") for s in samples if s.name == _INFO), None) or _UNNAMED
    nodes: dict[str, dict[tuple[str, Labels], float]] = {}
    for sample in samples:
        labels = dict(sample.labels)
        node = labels.pop("node", alone)
        nodes.setdefault(node, {})[sample.name, tuple(sorted(labels.items()))] = sample.value
    return Reading(at, nodes)


class Between:
    """Two readings, the later one first in mind. `before` None: there is none yet."""

    def __init__(self, before: Mapping[str, Reading], now: Reading) -> None:
        """`before` is the last reading of each node."""
        self._before = before
        self._now = now

    def total(self, name: str) -> float | None:
        """The sum over nodes and labels of what is there now."""
        found = [
            value
            for samples in self._now.nodes.values()
            for (known, _), value in samples.items()
            if known == name
        ]
        return sum(found) if found else None

    def rate(self, name: str) -> float | None:
        """What a counter grew by in a second, over nodes and labels."""
        found = [grown / seconds for _, grown, seconds in self._growth(name)]
        return sum(found) if found else None

    def rates(self, name: str, label: str) -> dict[str, float]:
        """The same for each value of a label, those that do not stand still, the largest first."""
        found: dict[str, float] = {}
        for labels, grown, seconds in self._growth(name):
            if grown:
                value = dict(labels).get(label, "")
                found[value] = found.get(value, 0) + grown / seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def quantile(self, name: str, share: float) -> float | None:
        """Seconds that such a share of what happened between took at most, estimated within the
        bucket it falls into; of the last one, its beginning. None where nothing happened."""
        buckets: dict[float, float] = {}
        for labels, grown, _ in self._growth(f"{name}_bucket"):
            bound = float(dict(labels).get("le", "+Inf"))
            buckets[bound] = buckets.get(bound, 0) + grown
        if not buckets:
            return None
        wanted, below, before = share * max(buckets.values()), 0.0, 0.0
        if not wanted:
            return None
        for bound, count in sorted(buckets.items()):
            if count >= wanted:
                if bound == float("inf"):
                    return before
                return before + (bound - before) * (wanted - below) / (count - below)
            below, before = count, bound
        return None

    def _growth(self, name: str) -> Iterator[tuple[Labels, float, float]]:
        """By how much each sample of that name grew in how many seconds."""
        for node, samples in self._now.nodes.items():
            earlier = self._before.get(node)
            if earlier is None or self._now.at <= earlier.at:
                continue
            known = earlier.nodes[node]
            for (found, labels), value in samples.items():
                if found == name:
                    grown = max(0.0, value - known.get((found, labels), 0.0))
                    yield labels, grown, self._now.at - earlier.at
