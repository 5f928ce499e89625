"""The named sets that the tables are made of. Every set has a result file of its own name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cases import DENSE, OWN, Axes, Launch, LayerAxes, Side, StepAxes

HIDDEN = (256, 512, 1024, 2048, 4096, 8192)
GRID_BATCH = (8, 32, 128, 256, 1024, 4096)
SQUARES = tuple((hidden, hidden) for hidden in HIDDEN)
# The largest three take seconds a product: less is asked of them.
GRID = ((GRID_BATCH, SQUARES[:4]), (GRID_BATCH[:-1], SQUARES[4:5]), (GRID_BATCH[:-2], SQUARES[5:]))
LARGEST = ((GRID_BATCH[-1:], SQUARES[4:5]), (GRID_BATCH[-2:], SQUARES[5:]))
# Shares of the dense work.
WORK = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1)
WORK_OF_LARGEST = (1.0, 0.55, 0.25, 0.1)
LITTLE = (0.0, 0.05, 0.1)  # rates
ONE_AND_BOTH: tuple[Side, ...] = ("both", "input")
OWN_AND_DENSE = ("medium", "dense", "dropgemm")


@dataclass(frozen=True)
class MeasuredSet:
    """What a set measures, why, and the seconds that it is worth."""

    about: str
    seconds: float
    axes: tuple[Axes, ...]
    device: Literal["cpu", "cuda"] = "cpu"


# On a GPU: cuBLAS, with PyTorch's dropout eager and fused, SparseDrop's way, and ours.
ON_GPU = ("stock", "dropout", "compiled", "index_select", "sparsedrop", "dense", "dropgemm drawn")
STEPS_ON_GPU = ("stock", "compiled", "index_select", "dropgemm", "dropgemm SGD")
EAGER_AND_GRAPH: tuple[Launch, ...] = ("eager", "graph")
RATES = (0.1, 0.25, 0.5, 0.75)


def _on_gpu(**axes: Any) -> LayerAxes:
    """A wide layer of today: eight groups of rows, blocks as wide as the copy engine likes them."""
    usual: dict[str, Any] = {
        "batch": (8192,), "features": ((4096, 4096),), "rows": (1024,), "cols": (64,),
        "dtype": ("bfloat16",), "contenders": ON_GPU,
    }  # fmt: skip
    return LayerAxes(**(usual | axes))


def _rates(shares: tuple[float, ...]) -> tuple[float, ...]:
    """At which, on both sides, so much of the work is kept."""
    return tuple(round(1 - share**0.5, 4) for share in shares)


SETS = {
    "layer": MeasuredSet(
        "one layer under blocks of 128 x 32: three products",
        80,
        (
            LayerAxes(),
            LayerAxes(features=((1024, 1024),), batch=(256,)),
            LayerAxes(batch=(1024,), p=(0.75,)),
        ),
    ),
    "pattern": MeasuredSet(
        "one layer, one pattern for the batch: blocks, rows, tiles",
        90,
        (
            LayerAxes(rows=(0,)),
            LayerAxes(method=("row", "tile"), period=(2, 4)),
        ),
    ),
    "searched": MeasuredSet(
        "one layer, the mean over the patterns of the searched distribution",
        60,
        (
            LayerAxes(
                method=("row", "tile"),
                period=(0,),
                contenders=("stock", "medium", "index_select", "dense", "dropgemm"),
            ),
        ),
    ),
    "bf16": MeasuredSet(
        "one layer in bfloat16",
        30,
        (LayerAxes(contenders=("stock", "medium", "bf16", *OWN)),),
    ),
    "table7": MeasuredSet(
        "Gyro Dropout's table 7: forward, one side, against our own dense product",
        10,
        (
            LayerAxes(
                features=((1024, 1024),),
                batch=(256,),
                side=("input", "output"),
                p=(0.1, 0.25, 0.5, 0.75),
                product=("forward",),
            ),
        ),
    ),
    "step": MeasuredSet(
        "training steps of the MLP of Approximate Random Dropout, momentum SGD",
        100,
        (StepAxes(method=("block", "row", "tile", "gyro"), contenders=(*DENSE, "dropgemm SGD")),),
    ),
    "step_bf16": MeasuredSet(
        "the same in bfloat16",
        40,
        (StepAxes(contenders=("stock", "medium", "bf16", *OWN)),),
    ),
    "optimizer": MeasuredSet(
        "training steps of both papers' MLPs under momentum SGD, plain SGD and Adam",
        90,
        (
            StepAxes(optimizer=("momentum", "sgd", "adam")),
            StepAxes(hidden=(1024,), optimizer=("momentum", "sgd", "adam")),
        ),
    ),
    "work": MeasuredSet(
        "time against kept work: t = a + b * work",
        130,
        (
            *(LayerAxes(*at, p=_rates(WORK), contenders=("dropgemm",)) for at in GRID),
            *(LayerAxes(*at, p=_rates(WORK_OF_LARGEST), contenders=("dropgemm",))
              for at in LARGEST),
        ),
    ),
    "breakeven": MeasuredSet(
        "pruned against dense where little is dropped",
        260,
        (
            *(LayerAxes(*at, side=ONE_AND_BOTH, p=LITTLE, contenders=OWN_AND_DENSE) for at in GRID),
            *(LayerAxes(*at, side=ONE_AND_BOTH, p=LITTLE[1:2], contenders=OWN_AND_DENSE)
              for at in LARGEST),
            *(LayerAxes(*at, p=LITTLE[:1], contenders=OWN_AND_DENSE) for at in LARGEST),
        ),
    ),
    "cuda_layer": MeasuredSet(
        "on a GPU, bfloat16: 4096 x 4096, batch 8192, everything that is dropped",
        45,
        tuple(
            _on_gpu(launch=EAGER_AND_GRAPH, **axes)
            for axes in (
                {"side": ONE_AND_BOTH},
                {"p": (0.75,)},
                {"rows": (128,), "cols": (32,)},
                {"method": ("row",), "cols": (32,)},
                {"method": ("tile",), "period": (2, 4), "cols": (32,)},
            )
        ),
        "cuda",
    ),
    "cuda_step": MeasuredSet(
        "on a GPU, autocast to bfloat16: training steps of an MLP 4096 wide, batch 8192",
        30,
        (
            StepAxes((8192,), (4096,), rows=(1024,), cols=(64,), contenders=STEPS_ON_GPU,
                     dtype=("bfloat16",), launch=EAGER_AND_GRAPH),
        ),
        "cuda",
    ),
    "cuda_table7": MeasuredSet(
        "on a GPU: Gyro Dropout's table 7, forward, one side; bfloat16, float32, tf32",
        25,
        tuple(
            _on_gpu(features=((1024, 1024),), batch=(256,), rows=(128,), cols=(32,),
                    side=("input", "output"), p=RATES, product=("forward",),
                    contenders=contenders, dtype=(dtype,), launch=EAGER_AND_GRAPH)
            for dtype, contenders in (
                ("bfloat16", ("stock", "compiled", "dense", "dropgemm", "dropgemm drawn")),
                ("float32", ("stock", "medium", "dense", "dropgemm", "dropgemm medium")),
            )
        ),
        "cuda",
    ),
    "cuda_papers": MeasuredSet(
        "on a GPU, bfloat16: layers of both papers, three products",
        30,
        tuple(
            _on_gpu(features=((width, width),), batch=(batch,), rows=(128,), cols=(32,),
                    launch=EAGER_AND_GRAPH, **axes)
            for width, batch in ((1024, 256), (2048, 128))
            for axes in ({"side": ONE_AND_BOTH}, {"method": ("row", "tile"), "period": (2, 4)})
        ),
        "cuda",
    ),
    "cuda_step_papers": MeasuredSet(
        "on a GPU, autocast to bfloat16: training steps of both papers' MLPs",
        30,
        tuple(
            StepAxes((batch,), (width,), method=("block", "row", "tile"), dtype=("bfloat16",),
                     contenders=STEPS_ON_GPU, launch=EAGER_AND_GRAPH)
            for width, batch in ((1024, 256), (2048, 128))
        ),
        "cuda",
    ),
    "cuda_wide": MeasuredSet(
        "on a GPU, bfloat16: 4096 and 8192 features, batch 4096 and 16384, p = .1 to .75",
        45,
        (
            _on_gpu(batch=(4096, 16384), features=((4096, 4096), (8192, 8192)), side=ONE_AND_BOTH,
                    p=RATES,
                    contenders=("stock", "compiled", "sparsedrop", "dense", "dropgemm drawn")),
        ),
        "cuda",
    ),
}  # fmt: skip
