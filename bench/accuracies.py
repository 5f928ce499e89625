"""Tables of test accuracy, made of the results of accuracy.py."""

from __future__ import annotations

import statistics
from typing import Any

from record import load
from rows import markdown


def _load(name: str) -> dict[str, Any]:
    return load(f"accuracy_{name}")


def _mean(result: dict[str, Any], contender: str) -> str:
    return f"{statistics.mean(result['accuracy_percent'][contender]):.2f} %"


def blocks() -> str:
    """Gyro and blocks of 32 and of 128 rows against conventional dropout, on the same seeds."""
    high, low = _load("fashion_mnist"), _load("fashion_mnist_32_rows")
    rows = []
    for name, method, result in (
        ("gyro", "gyro", high),
        ("block-wise, 32 rows x 32", "block", low),
        ("block-wise, 128 rows x 32", "block", high),
    ):
        found = result["against_conventional"][method]
        rows.append(
            [
                name,
                str(len(result["accuracy_percent"][method])),
                _mean(result, method),
                _mean(result, "conventional"),
                f"{found['mean_difference']:+.2f}",
                f"{found['lower_bound_95']:+.2f}",
            ]
        )
    header = ["dropout", "seeds", "accuracy", "conventional", "mean difference"]
    return markdown([*header, "one-sided 95 % bound"], rows)


def patterns() -> str:
    """Row and tile patterns by how periods are drawn and values scaled, on both datasets."""
    results = [_load("patterns_fashion_mnist"), _load("patterns_digits")]
    searches = {
        "narrow": ("period 2 alone (narrow), the default of layers", "2"),
        "rate": ("the paper's search, 1 to 8", "1 / (1 - p)"),
        "exact": ("the paper's search, 1 to 8", "the period"),
    }
    rows = []
    for method in ("row", "tile"):
        for change, (periods, scale) in searches.items():
            found = [result["against_conventional"][f"{method}:{change}"] for result in results]
            cells = [f"{x['mean_difference']:+.2f} (> {x['lower_bound_95']:+.2f})" for x in found]
            rows.append([f"{method} patterns", periods, scale, *cells])
    rows.append(["conventional", "", "", *(_mean(result, "conventional") for result in results)])
    return markdown(["dropout", "periods drawn from", "scale", "Fashion-MNIST", "digits"], rows)
