"""`dropgemm show tiles`: tile patterns on a weight, and what their skew does."""

from __future__ import annotations

import argparse
import warnings

import numpy as np

from dropgemm.framework import ceil_div
from dropgemm.options import OptionError, add_integer, add_option
from dropgemm.pattern import TilePattern, to_skew
from dropgemm.plots.page import DROPPED, KEPT, MARGIN, Page, as_image
from dropgemm.plots.panel import Panel, draw_panels, page_width
from dropgemm.plots.work import LayerMasks, products
from dropgemm.tile_mask import TileMask

BATCH = 128  # of the products; the shares do not depend on it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the picture."""
    add_integer(parser, "--out-features", 256, "outputs of the layer", high=2049)
    add_integer(parser, "--in-features", 256, "inputs of the layer", high=2049)
    add_integer(parser, "--period", 4, "one tile of so many is kept")
    add_integer(parser, "--offset", 1, "which tile of a period is kept", low=0)
    add_option(
        parser,
        "--skew",
        _parse_skew,
        "an integer or linear",
        (1, "linear"),
        "by how many tiles the pattern moves from one row of tiles to the next, a panel for each; "
        "linear: by the tiles of a row",
        many=True,
    )
    add_integer(parser, "--tile", 32, "rows and columns of a tile")


def panels(args: argparse.Namespace) -> list[Panel]:
    """A panel for each skew.

    Raises OptionError for a pattern that the library refuses, in its words.
    """
    rows, columns = ceil_div(args.out_features, args.tile), ceil_div(args.in_features, args.tile)
    found = []
    for skew in args.skew:
        try:
            pattern = TilePattern(args.period, args.offset, (args.tile, args.tile), skew)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that tiles line up is what is shown
                mask = pattern.mask(args.out_features, args.in_features)
        except ValueError as error:
            raise OptionError(f"--{error}") from None
        step = columns if skew == "linear" else skew
        title = f"skew = {step}" if skew != "linear" else f'skew = "linear" ({step})'
        r, c = np.arange(rows)[:, None], np.arange(columns)
        left = products(LayerMasks(BATCH, args.in_features, args.out_features, weights=mask))
        numbers = (c + step * r - args.offset) % args.period
        found.append(Panel(title, "", mask, ("outputs", "inputs"), left, describe(mask), numbers))
    return found


def describe(mask: TileMask) -> str:
    """Whether rows of tiles keep the same columns, and which features take no part."""
    kept = as_image(mask)
    text = (
        "Every row of tiles keeps the same columns."
        if (kept == kept[:1]).all()
        else "From one row of tiles to the next, other columns are kept."
    )
    idle = [
        f"{int((~kept.any(axis=axis)).sum())} of {kept.shape[1 - axis]} {name}"
        for axis, name in ((0, "inputs"), (1, "outputs"))
        if not kept.any(axis=axis).all()
    ]
    if not idle:
        return f"{text} Every input and every output still takes part."
    return f"{text} {' and '.join(idle)} take no part: they are dropped whole."


def draw(args: argparse.Namespace) -> Page:
    """The patterns side by side, one for each skew."""
    found = panels(args)
    page = Page(page_width(len(found)))
    y = page.head("Tile patterns on a weight", introduction(args))
    y = page.legend(MARGIN, y + 12, {"kept": KEPT, "dropped": DROPPED})
    draw_panels(page, found, y + 24)
    return page


def introduction(args: argparse.Namespace) -> str:
    """How the pattern is made, and how to read the panels."""
    number = f"(c + skew · r - {args.offset}) mod {args.period}".replace(" ", "\N{NO-BREAK SPACE}")
    return (
        f"A tile of {args.tile} x {args.tile} weights, in row r and column c of tiles, is kept "
        f"where {number}, the number in it, is 0. Bars: "
        "the share of the multiply-adds that is left in each of the layer's three products."
    )


def _parse_skew(text: str) -> int | str:
    return to_skew(text if text == "linear" else int(text))
