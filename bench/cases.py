"""What can be measured: axes, their legal values, and the named sets that the tables are made of.

A set is a list of axes; the values of one axes object are combined, each with each. Every set has
a result file of its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, Literal, get_args

from dropgemm.demo.variants import OptimizerName
from dropgemm.methods import Method

Pattern = Literal["block", "row", "tile"]
Side = Literal["both", "input", "output"]
Product = Literal["forward", "input gradient", "weight gradient"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
SIDES: tuple[Side, ...] = get_args(Side)
PRODUCTS: tuple[Product, ...] = get_args(Product)
ALL_PRODUCTS = "three products"  # their sum
# Who takes part: what dropgemm is compared with, and dropgemm in three precisions.
DENSE = ("stock", "medium", "bf16", "ready masks", "index_select", "dense")
OWN = ("dropgemm", "dropgemm medium", "dropgemm bf16")


@dataclass(frozen=True)
class Drop:
    """What a layer drops: blocks or rows of its inputs and outputs, or tiles of its weight."""

    method: Pattern
    side: Side = "both"  # of blocks and rows
    p: float = 0.5  # of blocks, and of searched patterns
    rows: int = 128  # of a group of blocks; 0: one group, the whole batch
    cols: int = 32  # width of a block; height and width of a weight tile
    period: int = 0  # of row and tile patterns; 0: drawn from a searched distribution
    search: str = "sgd"  # the method of that search

    def axes(self) -> dict[str, Any]:
        """What tells it from others of its method."""
        names = ["method"]
        names += [] if self.method == "tile" else ["side"]
        names += ["period"] if self.method != "block" else []
        names += ["p"] if self.period == 0 else []
        names += ["search"] if self.method != "block" and self.period == 0 else []
        names += ["rows"] if self.method == "block" else []
        names += ["cols"] if self.method != "row" else []
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        sides = "both sides" if self.side == "both" else f"{self.side}s"
        if self.method == "block":
            rows = f"{self.rows}" if self.rows else "batch"
            return f"blocks of {rows} x {self.cols}, p = {self.p:g}, {sides}"
        period = f"period {self.period}" if self.period else f"p = {self.p:g}, {self.search} search"
        if self.method == "tile":
            return f"tiles of {self.cols} x {self.cols}, {period}"
        return f"rows, {period}, {sides}"


def dropped_by(row: Mapping[str, Any]) -> str:
    """What the contender of a result's row drops, in words; "" where nothing."""
    if "work" not in row:  # of a step, or nothing
        return str(row.get("method", ""))
    return str(Drop(**{field.name: row[field.name] for field in fields(Drop) if field.name in row}))


@dataclass(frozen=True)
class Layer:
    """One layer, what it drops, and who multiplies."""

    batch: int
    inputs: int
    outputs: int
    drops: tuple[Drop, ...]
    products: tuple[Product, ...]
    contenders: tuple[str, ...]

    def shape(self) -> dict[str, Any]:
        """What its rows have in common."""
        return {"batch": self.batch, "inputs": self.inputs, "outputs": self.outputs}

    def size(self) -> float:
        """How much work there is, about, for comparison with other cases."""
        who = len(self.drops) * len(self.contenders)
        return float(self.batch * self.inputs * self.outputs * who)

    def __str__(self) -> str:
        return f"layer {self.inputs} x {self.outputs}, batch {self.batch}"


@dataclass(frozen=True)
class Step:
    """One training step of an MLP 784-hidden-hidden-10."""

    batch: int
    hidden: int
    optimizer: OptimizerName
    p: float
    rows: int
    methods: tuple[Method, ...]
    contenders: tuple[str, ...]

    def shape(self) -> dict[str, Any]:
        """What its rows have in common."""
        names = ("batch", "hidden", "optimizer", "p")
        return {name: getattr(self, name) for name in names}

    def size(self) -> float:
        """How much work there is, about, for comparison with other cases."""
        return float(self.batch * self.hidden**2 * len(self.contenders))

    def __str__(self) -> str:
        return f"MLP 784-{self.hidden}-{self.hidden}-10, {self.optimizer}, batch {self.batch}"


@dataclass(frozen=True)
class LayerAxes:
    """Layers, every value of an axis with every value of the others that bear on it."""

    batch: tuple[int, ...] = (128, 256, 1024)
    features: tuple[tuple[int, int], ...] = ((2048, 2048),)  # inputs and outputs
    method: tuple[Pattern, ...] = ("block",)
    side: tuple[Side, ...] = ("both",)
    p: tuple[float, ...] = (0.5,)
    rows: tuple[int, ...] = (128,)
    cols: tuple[int, ...] = (32,)
    period: tuple[int, ...] = (2,)
    search: tuple[str, ...] = ("sgd",)
    product: tuple[Product, ...] = PRODUCTS
    contenders: tuple[str, ...] = (*DENSE, "dropgemm")

    def drops(self) -> Iterator[Drop]:
        """Everything that the axes drop."""
        for method, p in product(self.method, self.p):
            sides: tuple[Side, ...] = ("both",) if method == "tile" else self.side
            for side, cols in product(sides, self.cols):
                if method == "block":
                    yield from (Drop(method, side, p, rows, cols, 0, "") for rows in self.rows)
                    continue
                for period in self.period:
                    searches = self.search if period == 0 else ("",)
                    rate = p if period == 0 else 1 - 1 / period
                    width = cols if method == "tile" else 1
                    yield from (Drop(method, side, rate, 0, width, period, s) for s in searches)

    def cases(self) -> Iterator[Layer]:
        """Every layer; what is dropped in it is measured side by side."""
        drops = tuple(dict.fromkeys(self.drops()))
        for (inputs, outputs), batch in product(self.features, self.batch):
            yield Layer(batch, inputs, outputs, drops, self.product, self.contenders)


@dataclass(frozen=True)
class StepAxes:
    """Training steps, every value of an axis with every other."""

    batch: tuple[int, ...] = (128, 256, 1024)
    hidden: tuple[int, ...] = (2048,)
    optimizer: tuple[OptimizerName, ...] = ("momentum",)
    p: tuple[float, ...] = (0.5,)
    rows: tuple[int, ...] = (128,)
    method: tuple[Method, ...] = ("block",)
    contenders: tuple[str, ...] = (*DENSE, "dropgemm", "dropgemm SGD")

    def cases(self) -> Iterator[Step]:
        """Every network; the methods are measured side by side."""
        for each in product(self.hidden, self.optimizer, self.batch, self.p, self.rows):
            hidden, optimizer, batch, p, rows = each
            yield Step(batch, hidden, optimizer, p, rows, self.method, self.contenders)


Axes = LayerAxes | StepAxes
Case = Layer | Step

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
}  # fmt: skip


def override(axes: Axes, values: dict[str, tuple[object, ...]]) -> Axes:
    """The axes with other values. Raises ValueError for an axis that they do not have."""
    for name in values:
        if not hasattr(axes, name):
            kind = "layers" if isinstance(axes, LayerAxes) else "steps"
            legal = ", ".join(f"--{each}" for each in vars(axes))
            raise ValueError(f"--{name}: expected an axis of {kind} ({legal})")
    return replace(axes, **values)  # type: ignore[arg-type]


def merged(cases: Iterable[Case]) -> list[Case]:
    """The cases without repetition; layers of one shape become one, which drops what each does.

    Smallest first: what they leave of a time budget serves the larger ones.
    """
    layers: dict[object, Layer] = {}
    steps: dict[Step, None] = {}
    for case in cases:
        if isinstance(case, Step):
            steps[case] = None
            continue
        key = replace(case, drops=())
        known = layers.get(key, key)
        drops = tuple(dict.fromkeys((*known.drops, *case.drops)))
        layers[key] = replace(known, drops=drops)
    return [
        *sorted(layers.values(), key=Layer.size),
        *sorted(steps, key=Step.size),
    ]
