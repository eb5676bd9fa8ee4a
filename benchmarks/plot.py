"""Bar charts as SVG: one bar a row, with a line from the least round to the most. Nothing else is drawn here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.spread import Spread

WIDTH, LABEL, VALUE, BAR, GAP, TOP, BOTTOM = 820, 270, 90, 18, 10, 34, 26
_OURS, _THEIRS, _TEXT, _LINES = "#2f6f9f", "#b0b7bd", "#24292f", "#d8dee4"


@dataclass(frozen=True)
class Bar:
    """One row of a chart.

    Attributes:
        ours: it is drawn in the colour of this gateway.
    """

    label: str
    spread: Spread
    ours: bool = False


def chart(title: str, bars: Sequence[Bar], digits: int) -> str:
    """Return an SVG document.

    Args:
        title: what is measured, with its unit.
        bars: at least one; from top to bottom.
        digits: of values after the point.
    """
    height = TOP + len(bars) * (BAR + GAP) + BOTTOM
    step = nice_step(max(bar.spread.most for bar in bars))
    ticks = math.ceil(max(bar.spread.most for bar in bars) / step)
    scale = (WIDTH - LABEL - VALUE) / (ticks * step)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{LABEL}" y="20" fill="{_TEXT}" font-weight="600">{escape(title)}</text>',
    ]
    for number in range(ticks + 1):
        x = LABEL + number * step * scale
        parts.append(f'<path d="M{x:.1f} {TOP - 4}V{height - BOTTOM}" stroke="{_LINES}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - 8}" fill="{_TEXT}" font-size="11" text-anchor="middle">'
            f"{number * step:,g}</text>"
        )
    for number, bar in enumerate(bars):
        parts += _bar(bar, TOP + number * (BAR + GAP), scale, digits)
    return "\n".join([*parts, "</svg>", ""])


def _bar(bar: Bar, y: float, scale: float, digits: int) -> list[str]:
    middle = y + BAR / 2
    ends = [LABEL + value * scale for value in (bar.spread.least, bar.spread.median, bar.spread.most)]
    colour = _OURS if bar.ours else _THEIRS
    label = f'<text x="{LABEL - 8}" y="{middle + 4:.1f}" fill="{_TEXT}" text-anchor="end">{escape(bar.label)}</text>'
    return [
        label,
        f'<rect x="{LABEL}" y="{y}" width="{ends[1] - LABEL:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{ends[0]:.1f} {middle}H{ends[2]:.1f}" stroke="{_TEXT}" stroke-width="1.5"/>',
        f'<text x="{ends[2] + 6:.1f}" y="{middle + 4:.1f}" fill="{_TEXT}">{bar.spread.median:,.{digits}f}</text>',
    ]


def nice_step(most: float) -> float:
    """Return 1, 2 or 5 times a power of ten: between three and eight of them reach ``most``."""
    power = 10.0 ** math.floor(math.log10(most)) if most > 0 else 1.0
    for factor in (0.2, 0.5, 1.0, 2.0):
        if most / (power * factor) <= 8:
            return power * factor
    return power * 2.0
