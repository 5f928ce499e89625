"""The three products of one layer, pruned, beside dense PyTorch, in turn.

    OMP_PROC_BIND=true python bench/layer.py --batch 128 1024 --features 2048
    OMP_PROC_BIND=true python bench/layer.py --method row --period 2 3 4 --name layer_row
    OMP_PROC_BIND=true python bench/layer.py --method tile --search sgd --p 0.5 --name layer_tile

Methods: block (gyro's blocks on inputs and outputs), row (a row pattern on inputs and outputs),
tile (a tile pattern on the weight). Prints medians and ratios for forward, input gradient and
weight gradient, and writes bench/results/<name>.json. --search times every period that the
searched distribution of rate p draws, for rows every pair of an input's and an output's, and adds
the mean over them: what a step takes in the long run.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import record
import torch

import dropgemm as dg

Product = Callable[[], object]
Seconds = dict[str, dict[str, list[float]]]  # of a product, of a contender

DENSE = ("stock", "medium", "dropgemm dense")


class Masks(NamedTuple):
    """What a layer drops: blocks or rows of its inputs and outputs, or tiles of its weight."""

    inputs: dg.TileMask | None = None
    outputs: dg.TileMask | None = None
    weight: dg.TileMask | None = None


def blocks(batch: int, features: int, p: float, rows: int) -> Masks:
    """Both sides, blocks of 32 features, one subnet a group of `rows` rows."""
    schedules = (
        dg.GyroSchedule(
            features, p, total_steps=64, seed=0, site=site, subnets=64, tile_rows=rows, tile_cols=32
        )
        for site in (0, 1)
    )
    return Masks(*(schedule.mask(0, batch, like=torch.empty(0)) for schedule in schedules))


def patterns(method: str, batch: int, features: int, periods: tuple[int, int]) -> Masks:
    """Every periods[0]-th input and periods[1]-th output; or tiles of the weight, of periods[0]."""
    like, (inputs, outputs) = torch.empty(0), periods
    if method == "tile":
        return Masks(weight=dg.TilePattern(inputs).mask(features, features, like=like))
    return Masks(
        dg.RowPattern(inputs).mask(batch, features, like=like),
        dg.RowPattern(outputs, outputs - 1).mask(batch, features, like=like),
    )


def dense(precision: str, product: Product) -> Product:
    """Run a dense product under a float32 matmul precision."""

    def run() -> None:
        torch.set_float32_matmul_precision(precision)
        product()

    return run


def products(
    batch: int, features: int, masks: Mapping[str, Masks]
) -> dict[str, dict[str, Product]]:
    """Make each product for each contender, over outputs that exist already."""
    x, dz = torch.randn(batch, features), torch.randn(batch, features)
    w = torch.randn(features, features)
    y, dx, dw = torch.empty(batch, features), torch.empty(batch, features), torch.empty_like(w)
    plain: dict[str, Product] = {
        "forward": lambda: torch.mm(x, w.t(), out=y),
        "input gradient": lambda: torch.mm(dz, w, out=dx),
        "weight gradient": lambda: torch.mm(dz.t(), x, out=dw),
    }

    def own(m: Masks) -> dict[str, Product]:
        return {
            "forward": lambda: dg.matmul(
                x, w, trans_b=True, a_mask=m.inputs, b_mask=m.weight, out_mask=m.outputs, out=y
            ),
            "input gradient": lambda: dg.matmul(
                dz, w, a_mask=m.outputs, b_mask=m.weight, out_mask=m.inputs, out=dx
            ),
            "weight gradient": lambda: dg.matmul(
                dz, x, trans_a=True, a_mask=m.outputs, b_mask=m.inputs, out_mask=m.weight, out=dw
            ),
        }

    contenders = {"dropgemm dense": own(Masks())} | {name: own(m) for name, m in masks.items()}
    return {
        name: {
            "stock": dense("highest", product),
            "medium": dense("medium", product),
            **{contender: each[name] for contender, each in contenders.items()},
        }
        for name, product in plain.items()
    }


def measure(batch: int, features: int, masks: Mapping[str, Masks], turns: int) -> Seconds:
    """Time every product of every contender in turn, and their sums."""
    table = products(batch, features, masks)
    seconds: Seconds = {name: {contender: [] for contender in row} for name, row in table.items()}
    for turn in range(turns + 1):
        for name, row in table.items():
            for contender, run in row.items():
                start = time.perf_counter()
                run()
                if turn > 0:
                    seconds[name][contender].append(time.perf_counter() - start)
    seconds["three products"] = {
        contender: [
            sum(times) for times in zip(*(seconds[n][contender] for n in table), strict=True)
        ]
        for contender in seconds["forward"]
    }
    return seconds


def summary(row: dict[str, list[float]], weights: Mapping[str, float]) -> dict[str, Any]:
    """Reduce one product's times to medians and ratios; of pruned contenders the weighted mean."""
    median = {contender: statistics.median(times) for contender, times in row.items()}
    pruned = sum(weight * median[contender] for contender, weight in weights.items())
    quartiles = {contender: statistics.quantiles(row[contender], n=4) for contender in weights}
    spread = sum(w * (quartiles[c][2] - quartiles[c][0]) for c, w in weights.items())
    milliseconds = {name: 1e3 * median[name] for name in DENSE} | {"dropgemm": 1e3 * pruned}
    return {
        "ms": milliseconds,
        "x_stock": median["stock"] / pruned,
        "x_medium": median["medium"] / pruned,
        "x_own_dense": median["dropgemm dense"] / pruned,
        "spread": spread / pruned,
    }


def report(batch: int, what: str, seconds: Seconds, weights: Mapping[str, float]) -> dict[str, Any]:
    """Summarise every product of the weighted contenders, and print it."""
    rows = {name: summary(row, weights) for name, row in seconds.items()}
    for name, row in rows.items():
        print(
            f"batch {batch:5d}  {what:10s} {name:16s} {row['ms']['dropgemm']:8.2f} ms  "
            f"spread {row['spread']:4.0%}  x stock {row['x_stock']:5.2f}  "
            f"x medium {row['x_medium']:5.2f}  x own dense {row['x_own_dense']:5.2f}"
        )
    return rows


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--method", choices=("block", "row", "tile"), default="block")
    parser.add_argument("--p", type=float, default=0.5, help="rate of blocks, or of the search")
    parser.add_argument("--rows", type=int, default=128, help="rows of a group of blocks")
    parser.add_argument("--period", type=int, nargs="+", default=[2, 3, 4], help="of patterns")
    parser.add_argument(
        "--search", choices=("sgd", "exact", "narrow"), help="periods by their odds"
    )
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="layer")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    if args.method == "block" and args.search:
        parser.error("--search: expected method row or tile, got block")
    torch.set_num_threads(args.threads)

    odds: dict[int, float] = {}
    results: dict[str, Any] = {"features": args.features, "method": args.method}
    if args.method == "block":
        results |= {"p": args.p, "rows": args.rows}
    if args.search:
        found = dg.search_distribution(args.p, method=args.search)
        odds = {i: float(q) for i, q in enumerate(found.probabilities, start=1) if q > 0}
        results |= {"p": args.p, "search": args.search, "odds": odds}
    # Of each pattern that is timed, its odds.
    pairs = {(i, i): 0.0 for i in sorted({*args.period, *odds})}
    if args.method == "row":
        pairs |= {(i, j): odds[i] * odds[j] for i, j in itertools.product(odds, odds)}
    else:
        pairs |= {(i, i): odds[i] for i in odds}

    results |= {"turns": args.turns, "layer": {}}
    for batch in args.batch:
        if args.method == "block":
            masks = {"dropgemm": blocks(batch, args.features, args.p, args.rows)}
            seconds = measure(batch, args.features, masks, args.turns)
            results["layer"][str(batch)] = report(batch, "blocks", seconds, {"dropgemm": 1.0})
            continue
        masks = {str(each): patterns(args.method, batch, args.features, each) for each in pairs}
        seconds = measure(batch, args.features, masks, args.turns)
        layer = results["layer"][str(batch)] = {}
        for i in args.period:
            layer[f"period {i}"] = report(batch, f"period {i}", seconds, {str((i, i)): 1.0})
        if odds:
            weights = {str(each): weight for each, weight in pairs.items() if weight > 0}
            layer["mean"] = report(batch, "mean", seconds, weights)
    print(record.save(args.name, results, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
