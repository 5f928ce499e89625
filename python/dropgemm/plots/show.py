"""`dropgemm show`: pictures of masks, schedules, tile patterns and products."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from dropgemm.options import add_picture
from dropgemm.plots import masks, products, schedule, tiles
from dropgemm.plots.page import house_style


class Picture(NamedTuple):
    """A picture: its module has `add_arguments(parser)` and `draw(args) -> Page`."""

    module: Any
    help: str


PICTURES = {
    "masks": Picture(masks, "what each method drops in one training step"),
    "schedule": Picture(schedule, "which subnet trains which samples, step by step"),
    "tiles": Picture(tiles, "tile patterns on a weight, and what their skew does"),
    "products": Picture(products, "what a method leaves of the three products of a layer"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a subcommand for each picture."""
    subparsers = parser.add_subparsers(dest="picture", metavar="picture", required=True)
    for name, picture in PICTURES.items():
        options = subparsers.add_parser(name, help=picture.help, description=picture.help)
        picture.module.add_arguments(options)
        add_picture(options, "--plot", f"{name}.png", "where the picture goes")


def run(args: argparse.Namespace) -> int:
    """Draws and saves a picture."""
    with house_style():
        PICTURES[args.picture].module.draw(args).save(args.plot)
    print(args.plot)
    return 0
