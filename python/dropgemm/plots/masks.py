"""`dropgemm show masks`: what each method drops in one training step (as Gyro's Figure 2)."""

from __future__ import annotations

import argparse

from dropgemm.options import add_choice, add_integer, add_rate
from dropgemm.plots.methods import METHODS, STEP, Draw, count, draw_mask
from dropgemm.plots.page import DROPPED, KEPT, MARGIN, Page
from dropgemm.plots.panel import Panel, draw_panels, page_width
from dropgemm.plots.work import LayerMasks, products


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the picture."""
    add_choice(parser, "--methods", METHODS, METHODS, "which masks", many=True)
    add_integer(parser, "--batch", 256, "samples", high=2049)
    add_integer(parser, "--features", 256, "neurons", high=2049)
    add_rate(parser, "--p", 0.5, "dropout rate")
    add_integer(parser, "--step", STEP, "training step", low=0, high=1 << 32)
    add_integer(parser, "--coscheduled", 8, "subnets trained at the same time, for gyro and block")
    add_integer(parser, "--seed", 0, "of the masks", low=0, high=1 << 63)


def panels(args: argparse.Namespace) -> list[Panel]:
    """A panel for each method: the mask of a square Linear's inputs; for "tile", of its weight."""
    draw = Draw(args.p, args.seed, args.step, args.coscheduled)
    sizes = args.batch, args.features, args.features
    found = []
    for method in args.methods:
        if method == "tile":
            axes = "outputs", "inputs"
            drawn = draw_mask(method, draw, 0, args.features, args.features)
            masks = LayerMasks(*sizes, weights=drawn.mask)
        else:
            axes = "samples", "neurons"
            drawn = draw_mask(method, draw, 0, args.batch, args.features)
            masks = LayerMasks(*sizes, inputs=drawn.mask)
        words = f"{drawn.dropped} {drawn.elsewhere}".strip()
        found.append(Panel(method, drawn.name, drawn.mask, axes, products(masks), words))
    return found


def draw(args: argparse.Namespace) -> Page:
    """The masks side by side, each with what is dropped and what work is left."""
    found = panels(args)
    page = Page(page_width(len(found)))
    y = page.head("What dropout drops, method by method", introduction(args))
    y = page.legend(MARGIN, y + 12, {"kept": KEPT, "dropped": DROPPED})
    draw_panels(page, found, y + 24)
    return page


def introduction(args: argparse.Namespace) -> str:
    """What all panels have in common."""
    where = "the inputs" + (" (for tile, the weights)" if "tile" in args.methods else "")
    return (
        f"Step {args.step} of a training run at p = {args.p:g}: {where} of a Linear of "
        f"{args.features} inputs and outputs, for a batch of {count(args.batch, 'sample')}. Bars: "
        "the share of the multiply-adds that is left in each of the layer's three products, "
        "counted on these masks."
    )
