"""The goals of the CUDA backend, and what a GPU reached where one has been measured.

    python bench/gpu_goals.py

prints them beside the results in bench/results, or in the folder that DROPGEMM_BENCH_RESULTS names.
A goal without results of a GPU stays one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import goals
from cases import ALL_PRODUCTS
from goals import Goal
from record import load, path_of
from rows import gpu_of, markdown, pick

NAMES = {"stock": "cuBLAS", "compiled": "cuBLAS + fused dropout", "dense": "our own dense"}

Values = Mapping[str, Any]


def _launched(row: Values, *, graph: bool) -> Values:
    """Rows say how work is launched only where it is from a graph."""
    return {**row, "launch": "graph" if graph else None}


def _both(**row: Any) -> list[Values]:
    """Call by call, and replayed from a graph."""
    return [_launched(row, graph=graph) for graph in (False, True)]


def _layer(**drop: Any) -> list[Values]:
    return _both(contender="dropgemm drawn", part=ALL_PRODUCTS, **drop)


WIDE = {"method": "block", "rows": 1024, "cols": 64}
LAYER = "layer 4096 x 4096, batch 8192, three products"
GOALS = (
    Goal(f"{LAYER}, blocks of 1024 x 64, both sides, p = .5", "cuda_layer",
         _layer(**WIDE, side="both", p=0.5), {"compiled": (3,)}),
    Goal(f"{LAYER}, the same, one side", "cuda_layer",
         _layer(**WIDE, side="input", p=0.5), {"compiled": (1.8,)}),
    Goal(f"{LAYER}, both sides, p = .75", "cuda_layer",
         _layer(**WIDE, side="both", p=0.75), {"compiled": (7,)}),
    Goal(f"{LAYER}, nothing dropped", "cuda_layer",
         _both(contender="dense", part=ALL_PRODUCTS), {"stock": (0.98,)}),
    Goal("step of the MLP 784-4096-4096-10, batch 8192, blocks of 1024 x 64, p = .5", "cuda_step",
         _both(contender="dropgemm SGD"), {"compiled": (2.5,)}),
    Goal(f"{LAYER}, blocks of 128 x 32, both sides, p = .5", "cuda_layer",
         _layer(method="block", rows=128, cols=32), {"compiled": (2,)}),
    *(
        Goal(f"forward of 1024 x 1024, batch 256, {side}s dropped, p = .5, replayed", "cuda_table7",
             [_launched({"contender": "dropgemm", "dtype": "bfloat16", "side": side, "p": 0.5},
                        graph=True)],
             {"dense": (1.58,), "stock": (1.58,)})
        for side in ("input", "output")
    ),
    Goal(f"{LAYER}, row patterns of period 2", "cuda_layer",
         _layer(method="row", period=2), {"compiled": (3,)}),
    *(
        Goal(f"{LAYER}, tile patterns of period {period}", "cuda_layer",
             _layer(method="tile", period=period), {"compiled": (least,)})
        for period, least in ((2, 1.7), (4, 3))
    ),
)  # fmt: skip


def _measured(name: str) -> bool:
    """Whether there are results of a GPU; the CPU's of the same set, which tests make, are none."""
    return path_of(name).exists() and "gpu" in load(name)["machine"]


def _line(goal: Goal, baseline: str, least: float) -> list[str]:
    """Where somebody failed, which the result file says, of what is left."""
    head = [goal.work, NAMES[baseline], f"{least:g}"]
    if not _measured(goal.results):
        return [*head, "not yet measured", ""]
    every = load(goal.results)["rows"]
    rows = [
        values for values in goal.rows if any(baseline in row["x"] for row in pick(every, **values))
    ]
    if not rows:
        return [*head, "failed", ""]
    ((line,), _) = goals.speedups(replace(goal, rows=rows, least={baseline: (least,)}), NAMES)
    alone = "" if len(rows) == len(goal.rows) else f", {rows[0]['launch'] or 'eager'} alone"
    return [*head, line[3] + alone, line[5]]


def table() -> str:
    """Every goal; the GPU and the date of what was measured."""
    header = ["work, bfloat16", "against", "goal", "eager / replayed (spread)", "reached"]
    lines = [
        _line(goal, baseline, least) for goal in GOALS for baseline, (least,) in goal.least.items()
    ]
    made = markdown(header, lines)
    measured = filter(_measured, dict.fromkeys(goal.results for goal in GOALS))
    sources = "".join(f"\n`{name}.json`: {gpu_of(load(name)['machine'])}.\n" for name in measured)
    return made + (sources or "\nNone of this has run on a GPU yet.\n")


if __name__ == "__main__":
    print(table())
