"""`dropgemm show products`: what a method leaves of the three products of a layer."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dropgemm.options import OptionError, add_choice, add_integer, add_rate
from dropgemm.plots.methods import METHODS, STEP, Draw, Drawn, draw_mask
from dropgemm.plots.page import (
    BODY,
    DROPPED,
    HEADING,
    INK,
    KEPT,
    MARGIN,
    QUIET,
    SHARE_COLOURS,
    Page,
    as_image,
    draw_array,
    percent,
)
from dropgemm.plots.work import LayerMasks, Product, products
from dropgemm.tile_mask import TileMask

# Batch, inputs and outputs at which blocks, and single neurons, are seen well.
BLOCK_SIZES, SINGLE_SIZES = (512, 384, 512), (64, 48, 64)
COLUMN, SEAM, GAP = 490, 14, 84  # pixels: of a product, between its operands, between products
HEADINGS, HIGHEST = 84, 800  # pixels above the operands, and of them at most
NOTHING = 1e-9  # below every share of a sum that is not empty


class Picture(NamedTuple):
    """What is drawn: a mask with its method in words, all masks of the layer, the products."""

    drawn: Drawn
    masks: LayerMasks
    products: list[Product]


class Operand(NamedTuple):
    """A matrix of a product as it is multiplied: its name, kept elements and tile."""

    name: str
    kept: npt.NDArray[Any]
    tile: tuple[int, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the picture."""
    add_choice(parser, "--method", METHODS, "block", "how the layer drops")
    add_choice(
        parser, "--sides", ("both", "input", "output"), "both", "where the layer has a dropout"
    )
    sizes = {"--batch": "samples", "--in-features": "inputs", "--out-features": "outputs"}
    for (name, what), blocks, single in zip(sizes.items(), BLOCK_SIZES, SINGLE_SIZES, strict=True):
        words = f"{what} (default {blocks} for block and tile, else {single})"
        add_integer(parser, name, None, words, high=2049)
    add_rate(parser, "--p", 0.5, "dropout rate")
    add_integer(parser, "--step", STEP, "training step", low=0, high=1 << 32)
    add_integer(parser, "--coscheduled", 8, "subnets trained at the same time, for gyro and block")
    add_integer(parser, "--seed", 0, "of the masks", low=0, high=1 << 63)


def layer_sizes(args: argparse.Namespace) -> tuple[int, int, int]:
    """Batch, inputs and outputs: as asked for, or as large as the method's pieces ask for."""
    given = args.batch, args.in_features, args.out_features
    usual = BLOCK_SIZES if args.method in ("block", "tile") else SINGLE_SIZES
    batch, inputs, outputs = (g or u for g, u in zip(given, usual, strict=True))
    return batch, inputs, outputs


def picture(args: argparse.Namespace) -> Picture:
    """The masks of the layer that the options describe, and what they leave.

    Raises OptionError for sides of a method that has none, for a rate that it does not reach.
    """
    draw = Draw(args.p, args.seed, args.step, args.coscheduled)
    batch, in_features, out_features = layer_sizes(args)
    if args.method == "tile":
        if args.sides != "both":
            raise OptionError(
                f"--sides: expected both for tile, which drops weights, got {args.sides}"
            )
        weights = draw_mask("tile", draw, 0, out_features, in_features)
        masks = LayerMasks(batch, in_features, out_features, weights=weights.mask)
        return Picture(weights, masks, products(masks))
    inputs = draw_mask(args.method, draw, 0, batch, in_features)
    outputs = draw_mask(args.method, draw, 1, batch, out_features)
    masks = LayerMasks(
        batch,
        in_features,
        out_features,
        inputs=inputs.mask if args.sides in ("both", "input") else None,
        outputs=outputs.mask if args.sides in ("both", "output") else None,
    )
    return Picture(inputs, masks, products(masks))


def operands(masks: LayerMasks) -> list[tuple[Operand, Operand, Operand]]:
    """The factors of each product, turned as they are multiplied, and the mask of its result."""
    b, i, o = masks.batch, masks.in_features, masks.out_features

    def operand(name: str, mask: TileMask | None, shape: tuple[int, int]) -> Operand:
        if mask is None:
            return Operand(name, np.ones(shape, np.bool_), shape)
        return Operand(name, as_image(mask), mask.tile)

    def turned(name: str, operand: Operand) -> Operand:
        return Operand(name, operand.kept.T, operand.tile[::-1])

    x = operand("X", masks.inputs, (b, i))
    w = operand("W", masks.weights, (o, i))
    dz = operand("dZ", masks.outputs, (b, o))
    return [
        (x, turned("Wᵀ", w), dz._replace(name="Y")),
        (dz, w, x._replace(name="dX")),
        (turned("dZᵀ", dz), x, w._replace(name="dW")),
    ]


def draw(args: argparse.Namespace) -> Page:
    """Each product as its two factors and, where they meet, its result."""
    found = picture(args)
    page = Page(2 * MARGIN + 3 * COLUMN + 2 * GAP)
    y = page.head("What is left of a layer's three products", introduction(args, found))
    y = _draw_legend(page, MARGIN, y + 12) + 26
    drawn = operands(found.masks)
    across, high = (
        max(a.kept.shape[axis] + b.kept.shape[axis] for a, b, _ in drawn) for axis in (1, 0)
    )
    scale = min((COLUMN - SEAM) / across, (HIGHEST - SEAM) / high)
    bottom = y + HEADINGS + high * scale + SEAM
    for number, (product, factors) in enumerate(zip(found.products, drawn, strict=True)):
        x = MARGIN + number * (COLUMN + GAP)
        page.text(x, y, product.name, HEADING, weight="bold")
        after = page.text_width(product.name, HEADING, "bold") + 16
        page.text(x + after, y, product.formula, HEADING, QUIET)
        _draw_product(page, product, *factors, x, bottom, scale)
        left = percent(product.work)
        after = page.text_width(left, HEADING, "bold") + 14
        page.text(x, bottom + 60, left, HEADING, weight="bold")
        page.text(x + after, bottom + 63, caption(product), BODY, width=COLUMN + 24 - after)
    return page


def introduction(args: argparse.Namespace, found: Picture) -> str:
    """Which layer it is, and how to read the picture."""
    where = {
        "both": "of its inputs and of its outputs",
        "input": "of its inputs",
        "output": "of its outputs",
    }[args.sides]
    if args.method == "tile":
        where = "of its weights"
    text = (
        f"A layer Y = X Wᵀ with dropout {where} ({found.drawn.name}, p = {args.p:g}, step "
        f"{args.step}): the factors of each product on the left and on top, the result where they "
        f"meet. {found.drawn.elsewhere}"
    )
    return text.strip()


def caption(product: Product) -> str:
    """What the share of work beside it means."""
    if product.skips:
        return "of the multiply-adds are left"
    return "of the multiply-adds: single elements cannot be skipped"


def _draw_legend(page: Page, x: float, y: float) -> float:
    page.legend(x, y, {"kept": KEPT, "dropped": DROPPED})
    x += 330
    ramp = page.panel(x, y + 8, 150, 18)
    ramp.imshow(np.linspace(0, 1, 150)[None], cmap=SHARE_COLOURS, vmin=0, vmax=1, aspect="auto")
    return page.text(x + 166, y, "results: the share of each sum that is kept, from little to all")


def _draw_product(
    page: Page,
    product: Product,
    a: Operand,
    b: Operand,
    result: Operand,
    x: float,
    bottom: float,
    scale: float,
) -> None:
    """A at the lower left, B at the upper right, the result in the corner between them."""
    rows, depth = a.kept.shape
    right, low = x + depth * scale + SEAM, bottom - rows * scale
    tile = min(a.tile[0], result.tile[0]), min(b.tile[1], result.tile[1])
    draw_array(page, a.kept, x, low, scale, tile=a.tile)
    draw_array(page, b.kept, right, low - SEAM - depth * scale, scale, tile=b.tile)
    draw_array(page, product.depth_left, right, low, scale, SHARE_COLOURS, NOTHING, tile)
    middle = right + b.kept.shape[1] * scale / 2
    for name, at, y in (
        (a.name, x + depth * scale / 2, bottom + 4),
        (result.name, middle, bottom + 4),
        (b.name, middle, low - SEAM - depth * scale - 36),
    ):
        page.text(at, y, name, BODY, INK, ha="center")
