"""Bars as SVG, readable on light and on dark pages."""

from collections.abc import Iterator, Mapping
from html import escape

from tests.benchmarks.summary import Cell, Comparison, cells

_WIDTH = 760
_BAR, _STEP, _TOP = 20, 30, 46
_LABELS, _VALUES = 150, 120  # left of the bars, and right of them
_STYLE = """
  .page { fill: #ffffff; }
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 15px; }
  .name { text-anchor: end; }
  .bar { fill: #8c959f; }
  .ours { fill: #0969da; }
  .range { stroke: #24292f; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; }
    text { fill: #e6edf3; }
    .bar { fill: #6e7681; }
    .ours { fill: #4493f8; }
    .range { stroke: #e6edf3; }
  }
"""


def plot_file(column: str) -> str:
    """What the plot of a column is called."""
    return f"{column.replace(' ', '-')}.svg"


def plot(comparison: Comparison, column: str) -> str:
    """The plot of a column."""
    return bars(f"Deliveries a second, {column}", cells(comparison, column), ours="hubbub")


def bars(title: str, found: Mapping[str, Cell], ours: str) -> str:
    """Rates of servers as bars, from their lowest to their highest run marked. Servers whose name
    begins with `ours` stand out."""
    height = _TOP + _STEP * len(found) + 8
    most = max((cell.high for cell in found.values()), default=1.0)
    rows = (
        line
        for place, (name, cell) in enumerate(found.items())
        for line in _row(name, cell, most, _TOP + place * _STEP, name.startswith(ours))
    )
    lines = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        # Of its own, since the page around it need not follow the reader's colours.
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="{_LABELS}" y="24">{escape(title)}</text>',
        *rows,
        "</svg>",
    )
    return "\n".join(lines) + "\n"


def _row(name: str, cell: Cell, most: float, y: int, ours: bool) -> Iterator[str]:
    scale = (_WIDTH - _LABELS - _VALUES) / most
    middle, text_y = y + _BAR / 2, y + 15
    low, high = (_LABELS + rate * scale for rate in (cell.low, cell.high))
    least = "≥ " if cell.at_least else ""
    yield f'<text class="name" x="{_LABELS - 8}" y="{text_y}">{escape(name)}</text>'
    yield (
        f'<rect class="bar{" ours" * ours}" x="{_LABELS}" y="{y}" '
        f'width="{max(cell.rate * scale, 1):.1f}" height="{_BAR}" rx="2"/>'
    )
    yield f'<path class="range" d="M{low:.1f} {middle}H{high:.1f}"/>'
    yield f'<text x="{high + 8:.1f}" y="{text_y}">{least}{_thousands(cell.rate)}</text>'


def _thousands(rate: float) -> str:
    return f"{rate / 1e3:,.0f} k/s" if rate >= 1e5 else f"{rate / 1e3:,.1f} k/s"
