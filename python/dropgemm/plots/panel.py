"""Small multiples: masks side by side, each with bars of the work that it leaves, and a caption."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from dropgemm.plots.page import (
    BODY,
    DROPPED,
    HEADING,
    INK,
    KEPT,
    MARGIN,
    QUIET,
    SMALL,
    Page,
    as_image,
    draw_array,
    percent,
    scale_to_fit,
)
from dropgemm.plots.work import Product
from dropgemm.tile_mask import TileMask

COLUMNS = 3
CELL = 512  # pixels, at most, of a mask's longer side
GAP = 64  # pixels between panels
CORNER, LENS, FRAME = 16, 160, 8  # elements that are magnified; pixels of them, and around them
NAMES, PERCENTS = 182, 84  # pixels left and right of a bar for words


class Panel(NamedTuple):
    """A mask, what its two axes are, the products of its layer, and words."""

    title: str
    subtitle: str
    mask: TileMask
    axes: tuple[str, str]  # down and along
    products: list[Product]
    caption: str
    numbers: npt.NDArray[np.int64] | None = None  # one for each tile, written into it


def page_width(panels: int) -> int:
    """The width of a page for so many panels."""
    columns = min(COLUMNS, panels)
    return 2 * MARGIN + columns * CELL + (columns - 1) * GAP


def draw_panels(page: Page, panels: list[Panel], y: float) -> None:
    """Draws panels in rows, all of them to one scale."""
    scale = scale_to_fit(max(max(panel.mask.shape) for panel in panels), CELL)
    for start in range(0, len(panels), COLUMNS):
        bottoms = []
        for column, panel in enumerate(panels[start : start + COLUMNS]):
            x = MARGIN + column * (CELL + GAP)
            bottoms.append(_draw_panel(page, panel, x, y, scale))
        y = max(bottoms) + 36


def _draw_panel(page: Page, panel: Panel, x: float, y: float, scale: float) -> float:
    page.text(x, y, panel.title, HEADING, weight="bold")
    after = page.text_width(panel.title, HEADING, "bold") + 16
    y = page.text(x + after, y, panel.subtitle, HEADING, QUIET) + 8
    mask = panel.mask
    axes = draw_array(page, as_image(mask), x, y, scale, tile=mask.tile)
    if is_magnified(mask, scale):
        _draw_magnified(page, mask, x, y, scale)
    if panel.numbers is not None and min(mask.tile) * scale >= 36:
        _write_numbers(axes, mask, panel.numbers)
    down, along = panel.axes
    y = page.text(x, y + mask.shape[0] * scale + 2, f"→ {along}   ↓ {down}", SMALL, QUIET) + 4
    for product in panel.products:
        y = _draw_work(page, product, x, y)
    return page.text(x, y + 10, panel.caption, BODY, width=CELL)


def is_magnified(mask: TileMask, scale: float) -> bool:
    """Whether elements are hard to see, and the mask is large enough to spare a corner."""
    rows, cols = (extent * scale for extent in mask.shape)
    return min(mask.tile) * scale < 4 and rows >= 2 * LENS and cols >= 3 * LENS


def _draw_magnified(page: Page, mask: TileMask, x: float, y: float, scale: float) -> None:
    """The upper left corner of a mask, magnified, over its lower right corner."""
    right, low = x + mask.shape[1] * scale, y + mask.shape[0] * scale
    page.panel(right - LENS - FRAME, low - LENS - FRAME, LENS + FRAME, LENS + FRAME)  # white
    corner = as_image(mask)[:CORNER, :CORNER]
    draw_array(page, corner, right - LENS, low - LENS, LENS / CORNER).set_gid("magnified")
    page.text(right, low + 2, f"{CORNER} x {CORNER}, magnified ↑", SMALL, QUIET, ha="right")


def _write_numbers(axes: Axes, mask: TileMask, numbers: npt.NDArray[np.int64]) -> None:
    down, along = (
        [(start + min(start + tile, extent)) / 2 for start in range(0, extent, tile)]
        for extent, tile in zip(mask.shape, mask.tile, strict=True)
    )
    for (row, column), number in np.ndenumerate(numbers):
        axes.text(
            along[column],
            down[row],
            str(number),
            fontsize=SMALL,
            ha="center",
            va="center",
            color="white" if number == 0 else QUIET,
        )


def _draw_work(page: Page, product: Product, x: float, y: float) -> float:
    """A line with a bar as long as the share of work that is left."""
    start, end = x + NAMES, x + CELL - PERCENTS
    page.text(x, y, product.name, SMALL, QUIET)
    page.rectangle(start, y + 9, end - start, 12, DROPPED)
    page.rectangle(start, y + 9, (end - start) * product.work, 12, KEPT)
    return page.text(end + 12, y, percent(product.work), SMALL, INK)
