"""Lines over time as SVG, readable on light and on dark pages."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

_WIDTH, _PANEL, _GAP, _TOP, _LEFT, _RIGHT = 760, 150, 46, 58, 60, 20
_COLOURS = ("#0969da", "#bf8700", "#8250df", "#1a7f37", "#cf222e")
_STYLE = """
  .page { fill: #ffffff; }
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 15px; }
  .axis { stroke: #8c959f; stroke-width: 1; fill: none; }
  .line { stroke-width: 1.5; fill: none; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; }
    text { fill: #e6edf3; }
  }
"""

Points = Sequence[tuple[float, float]]


def curves(title: str, panels: Mapping[str, Mapping[str, Points]]) -> str:
    """A panel for each quantity, a line in it for each name; x is in hours."""
    height = _TOP + (_PANEL + _GAP) * len(panels)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    longest = max(
        (x for lines in panels.values() for line in lines.values() for x, _ in line), default=1.0
    )
    body = [
        part
        for place, (quantity, lines) in enumerate(panels.items())
        for part in _panel(quantity, lines, names, longest, _TOP + place * (_PANEL + _GAP))
    ]
    legend = [
        f'<text x="{_LEFT + 90 * n}" y="42" style="fill: {_colour(n)}">{escape(name)}</text>'
        for n, name in enumerate(names)
    ]
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
            f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>',
            *legend,
            *body,
            "</svg>\n",
        )
    )


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _panel(
    quantity: str, lines: Mapping[str, Points], names: Sequence[str], longest: float, top: int
) -> Iterator[str]:
    highest = max((y for line in lines.values() for _, y in line), default=1.0) * 1.1 or 1.0
    wide, bottom = _WIDTH - _LEFT - _RIGHT, top + _PANEL
    yield f'<text x="{_LEFT}" y="{top - 4}">{escape(quantity)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {top}V{bottom}H{_WIDTH - _RIGHT}"/>'
    yield f'<text x="{_LEFT - 6}" y="{top + 12}" text-anchor="end">{highest:,.0f}</text>'
    yield f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>'
    yield f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 16}" text-anchor="end">{longest:.2f} h</text>'
    for name, line in lines.items():
        points = " ".join(
            f"{_LEFT + wide * x / (longest or 1.0):.1f},{bottom - _PANEL * y / highest:.1f}"
            for x, y in line
        )
        colour = _colour(names.index(name))
        yield f'<polyline class="line" style="stroke: {colour}" points="{points}"/>'
