"""`dropgemm demo`: an MLP on Fashion-MNIST, conventional dropout against pruned dropout.

Trains 784-H-H-10 with p = 0.5 from the same start with `nn.Dropout` in stock PyTorch and with every
method asked for: block-wise gyro and gyro dropout (Lee et al., MLSys 2022), row patterns and tile
patterns (Song et al., 2018). Then times the training step of each beside the fastest dense settings
of PyTorch, interleaved, and prints a table and a plot.
"""

import argparse
import os
import sys
from pathlib import Path

from dropgemm.methods import METHODS
from dropgemm.options import add_choice

PLOT_SUFFIXES = (".png", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to an argument parser."""
    parser.add_argument("--epochs", type=int, default=3, help="passes over the data (default 3)")
    parser.add_argument("--batch", type=int, default=256, help="rows of a batch (default 256)")
    parser.add_argument("--hidden", type=int, default=2048, help="hidden width (default 2048)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and masks")
    parser.add_argument("--p", type=float, default=0.5, help="dropout rate (default 0.5)")
    parser.add_argument("--coscheduled", type=int, default=8, help="subnets at a time (default 8)")
    others = [name for name in METHODS if name != "bernoulli"]
    add_choice(parser, "--methods", METHODS, others, "besides nn.Dropout", many=True)
    parser.add_argument(
        "--plot", type=Path, default=Path("dropgemm-demo.png"), help="where the plot goes"
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError naming the option, what was expected and what came."""
    for name in ("epochs", "batch", "hidden", "coscheduled"):
        value = getattr(args, name)
        if not 1 <= value < 1 << 31:
            raise ValueError(f"--{name}: expected an integer in [1, 2^31), got {value}")
    if not 0 <= args.seed < 1 << 63:
        raise ValueError(f"--seed: expected an integer in [0, 2^63), got {args.seed}")
    if not 0 <= args.p < 1:
        raise ValueError(f"--p: expected a rate in [0, 1), got {args.p}")
    if not args.plot.parent.is_dir() or args.plot.is_dir():
        raise ValueError(f"--plot: expected a file in an existing folder, got {args.plot}")
    if args.plot.suffix not in PLOT_SUFFIXES:
        legal = ", ".join(PLOT_SUFFIXES)
        raise ValueError(f"--plot: expected a name that ends in one of {legal}, got {args.plot}")
    if not os.access(args.plot if args.plot.exists() else args.plot.parent, os.W_OK):
        raise ValueError(f"--plot: expected a file that can be written, got {args.plot}")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return the process's exit status."""
    try:
        check_arguments(args)
    except ValueError as error:
        print(f"dropgemm demo: {error}", file=sys.stderr)
        return 2
    from dropgemm.demo import data, report, session

    try:
        dataset = data.load()
    except data.DataError as error:
        print(f"dropgemm demo: {error}", file=sys.stderr)
        return 1
    try:
        task = session.make_task(args, dataset)
    except ValueError as error:
        print(f"dropgemm demo: {error}", file=sys.stderr)
        return 2
    report.show(session.run(task, args.epochs, dataset, args.methods), args.plot)
    return 0
