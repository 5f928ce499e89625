"""The three products of one layer, pruned on both sides, beside dense PyTorch, in turn.

    OMP_PROC_BIND=true python bench/layer.py --batch 128 1024 --features 2048

Prints medians and ratios for forward, input gradient and weight gradient, and writes
bench/results/<name>.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import record
import torch

import dropgemm as dg

Product = Callable[[], object]


def dense(precision: str, product: Product) -> Product:
    """Run a dense product under a float32 matmul precision."""

    def run() -> None:
        torch.set_float32_matmul_precision(precision)
        product()

    return run


def products(batch: int, features: int, p: float, rows: int) -> dict[str, dict[str, Product]]:
    """Make each product for each contender, over outputs that exist already."""
    x, dz = torch.randn(batch, features), torch.randn(batch, features)
    w = torch.randn(features, features)
    y, dx, dw = torch.empty(batch, features), torch.empty(batch, features), torch.empty_like(w)
    inputs, outputs = (
        dg.GyroSchedule(
            features, p, total_steps=64, seed=0, site=site, subnets=64, tile_rows=rows, tile_cols=32
        ).mask(0, batch, like=x)
        for site in (0, 1)
    )
    pruned: dict[str, Product] = {
        "forward": lambda: dg.matmul(x, w, trans_b=True, a_mask=inputs, out_mask=outputs, out=y),
        "input gradient": lambda: dg.matmul(dz, w, a_mask=outputs, out_mask=inputs, out=dx),
        "weight gradient": lambda: dg.matmul(
            dz, x, trans_a=True, a_mask=outputs, b_mask=inputs, out=dw
        ),
    }
    plain: dict[str, Product] = {
        "forward": lambda: torch.mm(x, w.t(), out=y),
        "input gradient": lambda: torch.mm(dz, w, out=dx),
        "weight gradient": lambda: torch.mm(dz.t(), x, out=dw),
    }
    own: dict[str, Product] = {
        "forward": lambda: dg.matmul(x, w, trans_b=True, out=y),
        "input gradient": lambda: dg.matmul(dz, w, out=dx),
        "weight gradient": lambda: dg.matmul(dz, x, trans_a=True, out=dw),
    }
    return {
        name: {
            "stock": dense("highest", plain[name]),
            "medium": dense("medium", plain[name]),
            "dropgemm dense": own[name],
            "dropgemm": pruned[name],
        }
        for name in pruned
    }


def measure(batch: int, features: int, p: float, rows: int, turns: int) -> dict[str, Any]:
    """Time every product of every contender in turn; medians in ms, ratios, spread."""
    table = products(batch, features, p, rows)
    seconds: dict[str, dict[str, list[float]]] = {
        name: {contender: [] for contender in row} for name, row in table.items()
    }
    for turn in range(turns + 1):
        for name, row in table.items():
            for contender, run in row.items():
                start = time.perf_counter()
                run()
                if turn > 0:
                    seconds[name][contender].append(time.perf_counter() - start)
    totals = {
        contender: [sum(t) for t in zip(*(seconds[n][contender] for n in seconds), strict=True)]
        for contender in next(iter(seconds.values()))
    }
    return {name: summary(row) for name, row in {**seconds, "three products": totals}.items()}


def summary(row: dict[str, list[float]]) -> dict[str, Any]:
    """Reduce one product's times to medians and ratios."""
    median = {contender: statistics.median(times) for contender, times in row.items()}
    low, _, high = statistics.quantiles(row["dropgemm"], n=4)
    return {
        "ms": {contender: 1e3 * value for contender, value in median.items()},
        "x_stock": median["stock"] / median["dropgemm"],
        "x_medium": median["medium"] / median["dropgemm"],
        "x_own_dense": median["dropgemm dense"] / median["dropgemm"],
        "spread": (high - low) / median["dropgemm"],
    }


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--rows", type=int, default=128, help="rows of a group")
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="layer")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {
        "features": args.features, "p": args.p, "rows": args.rows, "turns": args.turns, "layer": {}
    }  # fmt: skip
    for batch in args.batch:
        rows = measure(batch, args.features, args.p, args.rows, args.turns)
        results["layer"][str(batch)] = rows
        for name, row in rows.items():
            print(
                f"batch {batch:5d}  {name:16s} {row['ms']['dropgemm']:8.2f} ms  "
                f"spread {row['spread']:4.0%}  x stock {row['x_stock']:5.2f}  "
                f"x medium {row['x_medium']:5.2f}  x own dense {row['x_own_dense']:5.2f}"
            )
    print(record.save(args.name, results, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
