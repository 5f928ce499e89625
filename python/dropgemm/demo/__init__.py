"""`dropgemm demo`: an MLP on Fashion-MNIST, conventional dropout against pruned dropout.

Trains 784-H-H-10 with p = 0.5 from the same start with `nn.Dropout` in stock PyTorch and with every
method asked for: block-wise gyro and gyro dropout (Lee et al., MLSys 2022), row patterns and tile
patterns (Song et al., 2018). Then times the training step of each beside the fastest dense settings
of PyTorch, interleaved, and prints a table and a plot.
"""

import argparse
import sys

from dropgemm.methods import METHODS
from dropgemm.options import OptionError, add_choice, add_integer, add_picture, add_rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to an argument parser."""
    add_integer(parser, "--epochs", 3, "passes over the data")
    add_integer(parser, "--batch", 256, "rows of a batch")
    add_integer(parser, "--hidden", 2048, "hidden width")
    add_integer(parser, "--seed", 0, "of weights, batches and masks", low=0, high=1 << 63)
    add_rate(parser, "--p", 0.5, "dropout rate")
    add_integer(parser, "--coscheduled", 8, "subnets at a time")
    others = [name for name in METHODS if name != "bernoulli"]
    add_choice(parser, "--methods", METHODS, others, "besides nn.Dropout", many=True)
    add_picture(parser, "--plot", "dropgemm-demo.png", "where the plot goes")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return the process's exit status. Raises OptionError for too large a batch."""
    from dropgemm.demo import data, report, session

    try:
        dataset = data.load().to_torch()
    except data.DataError as error:
        print(f"dropgemm demo: {error}", file=sys.stderr)
        return 1
    try:
        task = session.make_task(args, dataset)
    except ValueError as error:
        raise OptionError(str(error)) from None
    report.show(session.run(task, args.epochs, dataset, args.methods), args.plot)
    return 0
