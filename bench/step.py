"""Whole training steps of the demo's MLP, all contenders in turn in one process.

    OMP_PROC_BIND=true python bench/step.py --batch 128 256 1024 --name step

Prints medians, spreads and ratios against both baselines, stock PyTorch and
set_float32_matmul_precision("medium"), and writes bench/results/<name>.json.
"""

import argparse
from typing import Any

import record
import torch

from dropgemm.demo import timing, variants
from dropgemm.methods import METHODS, Method


def measure(batch: int, hidden: int, p: float, turns: int, methods: list[Method]) -> dict[str, Any]:
    """Step times of every variant at one batch size, on random rows."""
    task = variants.Task(784, hidden, 10, p, batch, total_steps=1000, seed=0)
    contenders = [
        *(make(task) for make in variants.BASELINES),
        *(variants.converted(task, method) for method in methods),
    ]
    x, y = torch.randn(batch, task.features), torch.randint(0, task.classes, (batch,))
    times = timing.interleaved(contenders, x, y, turns=turns)
    stock, medium, ready = (contender.name for contender in contenders[:3])
    return {
        name: {
            "ms": 1e3 * times.median(name),
            "spread": times.spread(name),
            "x_stock": times.speedup(name, stock),
            "x_medium": times.speedup(name, medium),
            "x_medium_ready_masks": times.speedup(name, ready),
        }
        for name in times.seconds
    }


def main() -> None:
    """Measures, prints, saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256, 1024])
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument(
        "--methods", nargs="+", default=["block", "gyro", "row", "tile"], choices=METHODS
    )
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="step")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {"hidden": args.hidden, "p": args.p, "turns": args.turns, "step": {}}
    for batch in args.batch:
        rows = measure(batch, args.hidden, args.p, args.turns, args.methods)
        results["step"][str(batch)] = rows
        for name, row in rows.items():
            print(
                f"batch {batch:5d}  {name:38s} {row['ms']:8.2f} ms  spread {row['spread']:4.0%}  "
                f"x stock {row['x_stock']:5.2f}  x medium {row['x_medium']:5.2f}  "
                f"x ready {row['x_medium_ready_masks']:5.2f}"
            )
    print(record.save(args.name, results, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
