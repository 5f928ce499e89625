"""Test accuracy of pruned dropout against conventional dropout, over paired seeds.

    python bench/accuracy.py --seeds 5 --epochs 5 --name accuracy_fashion_mnist

A seed gives the weights, the order of the batches and the masks; for each, conventional dropout,
block-wise gyro and gyro are trained alike. Reports the paired differences with a one-sided 95 %
bound (Student's t), and writes bench/results/<name>.json.
"""

import argparse
import math
import statistics
from dataclasses import replace
from typing import Any

import record
import torch
from rich.progress import Progress

from dropgemm.demo import data, session, variants

# 95 % quantiles of Student's t, by degrees of freedom.
T95 = {2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833, 11: 1.796}


METHODS = {"block": variants.block, "gyro": variants.gyro}


def lower_bound(differences: list[float]) -> float:
    """One-sided 95 % lower bound of the mean of paired differences."""
    n = len(differences)
    return statistics.mean(differences) - T95[n - 1] * statistics.stdev(differences) / math.sqrt(n)


def make_task(args: argparse.Namespace, seed: int, dataset: data.Dataset) -> variants.Task:
    """Make the demo's task for one seed."""
    task = session.make_task(argparse.Namespace(**vars(args), seed=seed), dataset)
    return task if args.tile_rows is None else replace(task, tile_rows=args.tile_rows)


def main() -> None:
    """Trains, compares, saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(n + 1 for n in T95))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--coscheduled", type=int, default=8)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--tile-rows", type=int, help="rows of a block (default: the demo's)")
    parser.add_argument("--name", default="accuracy")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    dataset = data.load()
    accuracy: dict[str, list[float]] = {}
    task = make_task(args, 0, dataset)
    for seed in range(args.seeds):
        task = make_task(args, seed, dataset)
        for make in (variants.medium, *(METHODS[name] for name in args.methods)):
            torch.manual_seed(seed)
            variant = make(task)
            with variant.settings(), Progress() as progress:
                run = session.train(variant, task, dataset, progress)
            accuracy.setdefault(make.__name__, []).append(100 * run.accuracy[-1])
            print(f"seed {seed} {make.__name__:8s} {100 * run.accuracy[-1]:.2f} %", flush=True)
    conventional = accuracy["medium"]
    results: dict[str, Any] = {
        "dataset": dataset.name,
        "epochs": args.epochs,
        "batch": args.batch,
        "hidden": args.hidden,
        "p": args.p,
        "subnets": task.subnets,
        "coscheduled": task.coscheduled,
        "tile_rows": task.tile_rows,
        "accuracy_percent": accuracy,
        "against_conventional": {},
    }
    for name in args.methods:
        differences = [x - y for x, y in zip(accuracy[name], conventional, strict=True)]
        results["against_conventional"][name] = {
            "mean_difference": statistics.mean(differences),
            "lower_bound_95": lower_bound(differences),
        }
    print(results["against_conventional"])
    print(record.save(args.name, results, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
