"""The picture of `dropgemm search`: a distribution beside the exact one, and the way to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dropgemm.plots.page import (
    BODY,
    DROPPED,
    HEADING,
    INK,
    KEPT,
    LINE,
    MARGIN,
    QUIET,
    SMALL,
    Page,
    house_style,
    percent,
)
from dropgemm.search import PatternDistribution

Values = npt.NDArray[np.float64]

EXACT = "#d98a1f"  # an orange that is told from the blue in every kind of colour vision
WIDTH, LEFT, RIGHT = 1640, 126, 36  # pixels of the page, left of an axis, right of it
BARS, CURVES = 460, 380  # pixels of the heights of panels
MOST_BARS = 48  # periods that are bars; more are lines over logarithmic axes
LAMBDA1 = 0.5  # the search's default, which `dropgemm search` leaves alone
NAMES = {"sgd": "found by descent", "narrow": "narrow", "exact": "exact"}
ALLOWED = 1e-3  # the distance from the rate that a search is asked to stay within


def save(found: Mapping[str, PatternDistribution], path: Path) -> None:
    """Draws a distribution by the method that found it, and then the exact one, if it is not."""
    with house_style():
        draw(found).save(path)


def draw(methods: Mapping[str, PatternDistribution]) -> Page:
    """The page."""
    page = Page(2 * MARGIN + WIDTH)
    found = list(methods.values())
    first = found[0]
    y = (
        page.head(
            f"How often each period is drawn to drop {percent(first.p)} of the neurons",
            INTRODUCTION + (FEW if "narrow" in methods else MANY),
        )
        + 20
    )
    names = {NAMES[method]: EXACT if method == "exact" else KEPT for method in methods}
    y = page.legend(MARGIN + LEFT, y, names) + 14
    axes = _panel(page, MARGIN + LEFT, y, WIDTH - LEFT - RIGHT, BARS)
    draw_probabilities(axes, found, list(names.values()))
    y += BARS + 96
    y = page.text(MARGIN, y, summary(found), BODY, width=WIDTH)
    if not len(first.losses):
        return page
    width = (WIDTH - 2 * (LEFT + RIGHT)) / 2
    bottom = y + 28
    for column, (heading, curve) in enumerate(
        (
            ("Loss, above where it comes to rest", loss_curve(first)),
            (f"Distance of the rate from {percent(first.p)}", rate_curve(first)),
        )
    ):
        x = MARGIN + LEFT + column * (width + LEFT + RIGHT)
        top = page.text(x, bottom, heading, HEADING, weight="bold") + 54
        axes = _panel(page, x, top, width, CURVES)
        draw_curve(axes, curve)
        _name_stages(page, axes, first, x, top, width)
    axes.axhline(ALLOWED, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    y = top + CURVES + 96
    page.text(MARGIN, y, explanation(first), BODY, width=WIDTH)
    return page


INTRODUCTION = (
    "A pattern of period n keeps one neuron of n and drops the others. Each training step draws a "
    "period anew; the search decides how often which, so that the rate is met on average and "
)
MANY = "the patterns vary as much as they can."
FEW = "as few periods as can be are drawn, which adds the least noise."


def summary(found: list[PatternDistribution]) -> str:
    """What the distribution drops, in words and numbers."""
    first = found[0]
    text = f"It drops {100 * first.rate:.3f}\N{NO-BREAK SPACE}% on average"
    if abs(first.rate - first.p) > ALLOWED:
        text += f", not {percent(first.p)}"
    text += f", with an entropy of {first.entropy:.3f} nats"
    if first.max_period > 1:
        text += (
            f" (all {first.max_period} periods alike would have {np.log(first.max_period):.3f} and "
            f"drop {percent(_uniform_rate(first.max_period))})"
        )
    text += f". Of all that drop {percent(first.p)}"
    if len(found) == 1:
        return f"{text} this one has the largest entropy."
    exact = found[1]
    off = 100 * np.abs(first.probabilities - exact.probabilities).sum()
    return (
        f"{text} the exact distribution has the largest entropy, {exact.entropy:.3f}; the two "
        f"differ by {off:.2g} percentage points, summed over the periods."
    )


def explanation(found: PatternDistribution) -> str:
    """How to read the curves."""
    text = (
        f"{found.iterations} steps of the descent. The loss is half the square of (rate - p), "
        f"less λ₂ / {found.max_period} times the entropy, which wants patterns to vary. "
    )
    if len(set(found.weights)) > 1:
        return text + (
            "Entropy pulls the rate off p: so wherever the loss has come to rest, λ₂ falls by ten "
            "and the next stage begins, shaded in turns. Dashed: 0.1 percentage points off p."
        )
    return text + (
        "λ₂ stays as it was printed, and where the loss comes to rest entropy holds the rate off "
        "p. Dashed: 0.1 percentage points off p."
    )


def draw_probabilities(axes: Axes, found: list[PatternDistribution], colours: list[str]) -> None:
    """Bars side by side; steps of a line over logarithmic axes where there are too many."""
    periods = found[0].max_period
    shares = [100 * one.probabilities for one in found]
    at = np.arange(1, periods + 1)
    axes.set_ylabel("share of the steps, %", size=SMALL, color=QUIET)
    axes.set_xlabel("period n: one neuron of n is kept", size=SMALL, color=QUIET)
    if periods <= MOST_BARS:
        width = 0.8 / len(found)
        for i, (share, colour) in enumerate(zip(shares, colours, strict=True)):
            axes.bar(at + (i - (len(found) - 1) / 2) * width, share, width, color=colour, zorder=2)
        axes.set_xlim(0.4, periods + 0.6)
        step = 1 if periods <= 24 else 4
        axes.xaxis.set_major_locator(FixedLocator([1, *range(step + step % 2, periods + 1, step)]))
        return
    edges = np.arange(0.5, periods + 1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low = min(share[share > 0].min() for share in shares) / 2
    for i, (share, colour) in enumerate(zip(shares, colours, strict=True)):
        axes.stairs(
            share, edges, baseline=low, fill=i == 0, color=colour, linewidth=1.6, zorder=2 + i
        )
    axes.set_xlim(0.5, periods + 0.5)
    axes.set_ylim(low, 2 * max(share.max() for share in shares))
    ticks = [2**i for i in range(periods.bit_length()) if 2**i <= periods]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def stages(found: PatternDistribution) -> list[tuple[int, int]]:
    """The first and the last step of each stage of a descent, the starting point being step 0."""
    last = [*np.flatnonzero(np.diff(found.weights)), found.iterations]
    return list(zip([0, *last[:-1]], last, strict=True))


def loss_curve(found: PatternDistribution) -> list[tuple[Values, Values]]:
    """Stage by stage, (steps, the loss above the lowest of its stage); the lowest is left out.

    A stage starts from the point where the one before ended, at a loss of its own weight.
    """
    curves = []
    square = LAMBDA1 * (found.rates - found.p) ** 2
    negative_entropy = (found.losses - square) / found.weights  # over the number of periods
    for first, last in stages(found):
        loss = square[first : last + 1] + found.weights[last] * negative_entropy[first : last + 1]
        above = loss - loss.min()
        seen = above > 0
        curves.append((np.arange(first, last + 1.0)[seen], above[seen]))
    return curves


def rate_curve(found: PatternDistribution) -> list[tuple[Values, Values]]:
    """(steps, the distance of the rate from p), in one piece."""
    off = np.abs(found.rates - found.p)
    return [(np.arange(len(off), dtype=np.float64)[off > 0], off[off > 0])]


def draw_curve(axes: Axes, pieces: list[tuple[Values, Values]]) -> None:
    """A curve over the steps of a descent, on a logarithmic scale."""
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    steps = sum(len(x) for x, _ in pieces)
    for x, y in pieces:
        axes.plot(
            x, y, color=KEPT, linewidth=1.6, marker="o" if steps <= 120 else None, markersize=2.6,
            zorder=3,
        )  # fmt: skip
    axes.set_xlabel("steps of the descent", size=SMALL, color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))


def _name_stages(
    page: Page, axes: Axes, found: PatternDistribution, x: float, top: float, width: float
) -> None:
    """Shades every other stage and writes its weight above it, where there is room."""
    steps = max(found.iterations, 1)
    axes.set_xlim(0, steps)
    label = "λ₂ ="
    page.text(x - page.text_width(label, SMALL) - 10, top - 44, label, SMALL, QUIET)
    free = x
    for number, (first, last) in enumerate(stages(found)):
        if number % 2:
            axes.axvspan(first, last, color=DROPPED, alpha=0.6, linewidth=0, zorder=0)
        name = f"{found.weights[last]:.3g}"
        middle = x + width * (first + last) / 2 / steps
        half = page.text_width(name, SMALL) / 2
        if middle - half >= free and middle + half <= x + width:
            page.text(middle - half, top - 44, name, SMALL, QUIET)
            free = middle + half + 10


def _panel(page: Page, x: float, y: float, width: float, height: float) -> Axes:
    """Axes with a frame on two sides, small letters, and lines across."""
    axes = page.panel(x, y, width, height)
    axes.xaxis.set_major_locator(MaxNLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6))
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color(LINE)
    axes.tick_params(labelsize=SMALL, labelcolor=INK, color=LINE)
    axes.grid(axis="y", color=DROPPED, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _uniform_rate(periods: int) -> float:
    return float(1 - (1 / np.arange(1, periods + 1)).mean())
