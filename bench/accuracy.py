"""Test accuracy of pruned dropout against conventional dropout, over paired seeds.

    python bench/accuracy.py --seeds 5 --epochs 5 --name accuracy_fashion_mnist
    python bench/accuracy.py --data digits --epochs 40 --batch 128 --methods row tile tile:rate

A seed gives the weights, the order of the batches and the masks; for each, conventional dropout
and every method are trained alike. A method may have a variant: "row:rate" and "row:exact" are row
patterns of the paper's search, scaled by 1 / (1 - p) and by the period, "row:narrow" those of the
narrow search.
Reports the paired differences with a one-sided 95 % bound (Student's t), and writes
bench/results/<name>.json.
"""

import argparse
import math
import statistics
from dataclasses import replace
from typing import Any

import record
import torch
from arguments import count, rate
from rich.progress import Progress

from dropgemm.demo import data, session, variants
from dropgemm.methods import METHODS

# 95 % quantiles of Student's t, by degrees of freedom.
T95 = {2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833, 11: 1.796}
LOADERS = {"fashion": data.load, "digits": data.load_digits}
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "rate": {"scale": "rate", "search": "sgd"},
    "exact": {"scale": "exact", "search": "sgd"},
    "narrow": {"search": "narrow"},
}


def method_and_change(text: str) -> str:
    """Check "method" or "method:change"; argparse prints what is wrong."""
    method, _, change = text.partition(":")
    if method not in METHODS or change not in CHANGES:
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(METHODS)}, alone or with :rate, :exact or :narrow, got {text}"
        )
    return text


def lower_bound(differences: list[float]) -> float:
    """One-sided 95 % lower bound of the mean of paired differences."""
    n = len(differences)
    return statistics.mean(differences) - T95[n - 1] * statistics.stdev(differences) / math.sqrt(n)


def make_task(args: argparse.Namespace, seed: int, dataset: data.Dataset) -> variants.Task:
    """Make the demo's task for one seed."""
    task = session.make_task(argparse.Namespace(**vars(args), seed=seed), dataset)
    task = replace(task, learning_rate=args.learning_rate)
    return task if args.tile_rows is None else replace(task, tile_rows=args.tile_rows)


def train(task: variants.Task, contender: str, dataset: data.Dataset) -> float:
    """Trains one contender; returns its test accuracy in percent."""
    torch.manual_seed(task.seed)
    method, _, change = contender.partition(":")
    if method == "conventional":
        variant = variants.medium(task)
    else:
        variant = variants.converted(replace(task, **CHANGES[change]), method)
    with variant.settings(), Progress() as progress:
        return 100 * session.train(variant, task, dataset, progress).accuracy[-1]


def main() -> None:
    """Trains, compares, saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="fashion", choices=LOADERS)
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(n + 1 for n in T95))
    parser.add_argument("--epochs", type=count, default=5)
    parser.add_argument("--batch", type=count, default=256)
    parser.add_argument("--hidden", type=count, default=2048)
    parser.add_argument("--p", type=rate, default=0.5)
    parser.add_argument("--coscheduled", type=count, default=8)
    parser.add_argument("--methods", nargs="+", default=["block", "gyro"], type=method_and_change)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--tile-rows", type=count, help="rows of a block (default: the demo's)")
    parser.add_argument("--name", default="accuracy")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    try:
        record.check_free(args.name, overwrite=args.overwrite)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    dataset = LOADERS[args.data]().to_torch()
    accuracy: dict[str, list[float]] = {"conventional": [], **{name: [] for name in args.methods}}
    for seed in range(args.seeds):
        task = make_task(args, seed, dataset)
        for name, values in accuracy.items():
            values.append(train(task, name, dataset))
            print(f"seed {seed} {name:12s} {values[-1]:.2f} %", flush=True)
    task = make_task(args, 0, dataset)
    results: dict[str, Any] = {
        "dataset": dataset.name,
        "epochs": args.epochs,
        "batch": args.batch,
        "hidden": args.hidden,
        "p": args.p,
        "learning_rate": args.learning_rate,
        "subnets": task.subnets,
        "coscheduled": task.coscheduled,
        "tile_rows": task.tile_rows,
        "accuracy_percent": accuracy,
        "against_conventional": {},
    }
    for name in args.methods:
        pairs = zip(accuracy[name], accuracy["conventional"], strict=True)
        differences = [ours - theirs for ours, theirs in pairs]
        results["against_conventional"][name] = {
            "mean_difference": statistics.mean(differences),
            "lower_bound_95": lower_bound(differences),
        }
        print(name, results["against_conventional"][name])
    print(record.save(args.name, results, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
