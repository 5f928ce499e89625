"""`dropgemm show masks`: what each method drops in one training step (as Gyro's Figure 2)."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from dropgemm.options import add_choice, add_integer, add_rate
from dropgemm.plots.methods import METHODS, Draw, Drawn, draw_mask
from dropgemm.plots.page import (
    BODY,
    DROPPED,
    HEADING,
    KEPT,
    MARGIN,
    QUIET,
    SMALL,
    TITLE,
    Page,
    as_image,
    draw_array,
    percent,
    scale_to_fit,
)
from dropgemm.plots.work import LayerMasks, Product, products

COLUMNS = 3
CELL = 512  # pixels, at most, of a mask's longer side
LABEL, GAP = 36, 40  # pixels left of a panel for its label, and between panels
NAMES, PERCENTS = 170, 84  # pixels left and right of a bar for words


class Panel(NamedTuple):
    """One mask of the picture, with the products of the layer that it lies in."""

    method: str
    drawn: Drawn
    products: list[Product]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the picture."""
    add_choice(parser, "--methods", METHODS, METHODS, "which masks", many=True)
    add_integer(parser, "--batch", 256, "samples", high=2049)
    add_integer(parser, "--features", 256, "neurons", high=2049)
    add_rate(parser, "--p", 0.5, "dropout rate")
    add_integer(parser, "--step", 0, "training step", low=0, high=1 << 32)
    add_integer(parser, "--coscheduled", 8, "subnets trained at the same time, for gyro and block")
    add_integer(parser, "--seed", 0, "of the masks", low=0, high=1 << 63)


def panels(args: argparse.Namespace) -> list[Panel]:
    """The masks that the options ask for.

    Each lies on what a square Linear reads; that of "tile" on its weight.
    """
    draw = Draw(args.p, args.seed, args.step, args.coscheduled)
    found = []
    for method in args.methods:
        rows = args.features if method == "tile" else args.batch
        drawn = draw_mask(method, draw, 0, rows, args.features)
        sizes = (args.batch, args.features, args.features)
        masks = (
            LayerMasks(*sizes, weights=drawn.mask)
            if method == "tile"
            else LayerMasks(*sizes, inputs=drawn.mask)
        )
        found.append(Panel(method, drawn, products(masks)))
    return found


def draw(args: argparse.Namespace) -> Page:
    """The masks side by side, each with what is dropped and what work is left."""
    found = panels(args)
    columns = min(COLUMNS, len(found))
    page = Page(2 * MARGIN + columns * CELL + columns * LABEL + (columns - 1) * GAP)
    inner = page.width - 2 * MARGIN
    y = page.text(MARGIN, MARGIN, "What dropout drops, method by method", TITLE, weight="bold")
    y = page.text(MARGIN, y, introduction(args), BODY, QUIET, width=inner)
    y = page.legend(MARGIN, y + 12, {"kept": KEPT, "dropped": DROPPED}) + 24
    scale = scale_to_fit(max(args.batch, args.features), CELL)
    for row in range(0, len(found), columns):
        bottoms = []
        for column, panel in enumerate(found[row : row + columns]):
            x = MARGIN + LABEL + column * (CELL + LABEL + GAP)
            bottoms.append(_draw_panel(page, panel, x, y, scale))
        y = max(bottoms) + 30
    return page


def introduction(args: argparse.Namespace) -> str:
    """What all panels have in common."""
    return (
        f"Step {args.step} of a training run at p = {args.p:g}: the inputs of a Linear of "
        f"{args.features} inputs and outputs, for a batch of {args.batch} samples. Bars: the share "
        "of the multiply-adds that is left in each of the layer's three products, counted on these "
        "masks."
    )


def _draw_panel(page: Page, panel: Panel, x: float, y: float, scale: float) -> float:
    page.text(x, y, panel.method, HEADING, weight="bold")
    name_x = x + page.text_width(panel.method, HEADING, "bold") + 16
    y = page.text(name_x, y, panel.drawn.name, HEADING, QUIET) + 8
    mask = panel.drawn.mask
    axes = draw_array(page, as_image(mask), x, y, scale, tile=mask.tile)
    down, along = ("outputs", "inputs") if panel.method == "tile" else ("samples", "neurons")
    axes.set_ylabel(down, size=SMALL, color=QUIET, labelpad=5)
    axes.set_xlabel(along, size=SMALL, color=QUIET, labelpad=3)
    y += mask.shape[0] * scale + 36
    for product in panel.products:
        y = _draw_work(page, product, x, y)
    return page.text(x, y + 10, panel.drawn.dropped, BODY, width=CELL)


def _draw_work(page: Page, product: Product, x: float, y: float) -> float:
    """A line with a bar as long as the share of work that is left."""
    start, end = x + NAMES, x + CELL - PERCENTS
    page.text(x, y, product.name, SMALL, QUIET)
    page.rectangle(start, y + 9, end - start, 12, DROPPED)
    page.rectangle(start, y + 9, (end - start) * product.work, 12, KEPT)
    return page.text(end + 12, y, percent(product.work), SMALL, QUIET)
