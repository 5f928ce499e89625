"""`dropgemm search`: the distribution of periods for a rate, as a table and as a picture."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dropgemm.options import OptionError, add_choice, add_integer, add_picture, add_rate
from dropgemm.search import (
    SEARCH_METHODS,
    PatternDistribution,
    SearchMethod,
    search_distribution,
)

SINGLES = 16  # periods that have a line of the table to themselves where there are no more


class Found(NamedTuple):
    """A distribution, the name of what found it, and how long that took."""

    name: str
    distribution: PatternDistribution
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_rate(parser, "--p", 0.5, "dropout rate that is searched for")
    add_integer(
        parser, "--max-period", None, "largest period; by default max(8, 2 / (1 - p)), rounded up"
    )
    add_integer(parser, "--features", None, "neurons to drop from: no period is larger")
    add_choice(
        parser,
        "--method",
        SEARCH_METHODS,
        "sgd",
        "the descent of the paper or, narrow, the two neighbouring periods that layers draw from, "
        "beside the distribution of the largest entropy; or, exact, that one alone",
    )
    parser.add_argument(
        "--no-anneal", action="store_true", help="sgd as printed: weights that stay"
    )
    add_picture(parser, "--plot", None, "where a picture of it goes")


def run(args: argparse.Namespace) -> int:
    """Searches, prints, and draws where a picture is asked for."""
    if args.plot is not None:
        from dropgemm.plots import distribution  # says that matplotlib is missing before all else
    if args.no_anneal and args.method != "sgd":
        raise OptionError(f"--no-anneal: expected --method sgd beside it, got {args.method}")
    found = [_search(args, "exact", args.max_period)]
    if args.method != "exact":  # over as many periods, so that the two can be compared
        found.insert(0, _search(args, args.method, found[0].distribution.max_period))
    for line in table(found):
        print(line)
    if args.plot is not None:
        distribution.save({one.name: one.distribution for one in found}, args.plot)
        print(f"\n{args.plot}")
    return 0


def table(found: list[Found]) -> Iterator[str]:
    """Lines that say how often each period is drawn, and what comes of it."""
    first = found[0].distribution
    periods = f"periods 1 to {first.max_period}" if first.max_period > 1 else "period 1 alone"
    yield f"p = {first.p:g}, {periods}"
    yield ""
    yield f"{'period':>12} {'keeps':>17}" + "".join(f"{one.name:>12}" for one in found)
    for low, high in _ranges(first.max_period):
        alone = low == high
        period = f"{low}" if alone else f"{low} to {high}"
        kept = ("all" if low == 1 else f"1/{low}") if alone else f"1/{low} to 1/{high}"
        shares = (100 * one.distribution.probabilities[low - 1 : high].sum() for one in found)
        yield f"{period:>12} {kept:>17}" + "".join(f"{share:>10.3f} %" for share in shares)
    yield ""
    yield f"{'':>12}{'rate':>10}{'entropy':>10}{'iterations':>13}{'ms':>10}"
    for name, distribution, seconds in found:
        yield (
            f"{name:>12}{distribution.rate:>10.6f}{distribution.entropy:>10.4f}"
            f"{distribution.iterations:>13}{1e3 * seconds:>10.2f}"
        )
    if len(found) > 1:
        off = distance(first, found[1].distribution)
        yield ""
        yield f"The two differ by {off:.1e}, the sum of absolute differences."


def distance(one: PatternDistribution, other: PatternDistribution) -> float:
    """The sum of absolute differences between two distributions of as many periods."""
    return float(np.abs(one.probabilities - other.probabilities).sum())


def _search(args: argparse.Namespace, method: SearchMethod, max_period: int | None) -> Found:
    start = time.perf_counter()
    try:
        distribution = search_distribution(
            args.p,
            max_period,
            method,
            features=args.features,
            anneal=not args.no_anneal,
        )
    except ValueError as error:
        name, message = str(error).split(":", 1)
        raise OptionError(f"--{name.replace('_', '-')}:{message}") from None
    return Found(method, distribution, time.perf_counter() - start)


def _ranges(periods: int) -> Iterator[tuple[int, int]]:
    """Periods one by one; where they are many, from the ninth on in ranges that double."""
    low = 1
    while low <= periods:
        alone = periods <= SINGLES or low <= SINGLES // 2
        high = low if alone else min(2 * low - 2, periods)
        yield low, high
        low = high + 1
