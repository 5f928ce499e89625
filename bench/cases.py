"""What can be measured: axes, their legal values, and the cases that they come to.

The values of one axes object are combined, each with each. The named sets are in sets.py.
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
Number = Literal["float32", "bfloat16", "float16"]
Launch = Literal["eager", "graph"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
SIDES: tuple[Side, ...] = get_args(Side)
PRODUCTS: tuple[Product, ...] = get_args(Product)
NUMBERS: tuple[Number, ...] = get_args(Number)
LAUNCHES: tuple[Launch, ...] = get_args(Launch)  # call by call, or replayed from a CUDA graph
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
    coscheduled: int = 8  # subnets of a step; 0: each group of rows has one of its own

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


USUAL = {"cols": 32, "dtype": "float32", "launch": "eager"}


def _unusual(case: Layer | Step) -> dict[str, Any]:
    """What rows say of a case only where it is not as usual."""
    values = {name: getattr(case, name, value) for name, value in USUAL.items()}
    return {name: value for name, value in values.items() if value != USUAL[name]}


def _in_words(case: Layer | Step) -> str:
    values = _unusual(case)
    words = [values.get("dtype", ""), "replayed from a graph" if "launch" in values else ""]
    return "".join(f", {word}" for word in words if word)


@dataclass(frozen=True)
class Layer:
    """One layer, what it drops, and who multiplies."""

    batch: int
    inputs: int
    outputs: int
    drops: tuple[Drop, ...]
    products: tuple[Product, ...]
    contenders: tuple[str, ...]
    dtype: Number = "float32"  # of contenders that name none
    launch: Launch = "eager"

    def shape(self) -> dict[str, Any]:
        """What its rows have in common."""
        sizes = {"batch": self.batch, "inputs": self.inputs, "outputs": self.outputs}
        return sizes | _unusual(self)

    def size(self) -> float:
        """How much work there is, about, for comparison with other cases."""
        who = len(self.drops) * len(self.contenders)
        return float(self.batch * self.inputs * self.outputs * who)

    def __str__(self) -> str:
        return f"layer {self.inputs} x {self.outputs}, batch {self.batch}{_in_words(self)}"


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
    cols: int = 32
    dtype: Number = "float32"  # bfloat16 and float16: under autocast
    launch: Launch = "eager"

    def shape(self) -> dict[str, Any]:
        """What its rows have in common."""
        names = ("batch", "hidden", "optimizer", "p")
        axes = {name: getattr(self, name) for name in names}
        return axes | _unusual(self)

    def size(self) -> float:
        """How much work there is, about, for comparison with other cases."""
        return float(self.batch * self.hidden**2 * len(self.contenders))

    def __str__(self) -> str:
        sizes = f"784-{self.hidden}-{self.hidden}-10"
        return f"MLP {sizes}, {self.optimizer}, batch {self.batch}{_in_words(self)}"


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
    dtype: tuple[Number, ...] = ("float32",)
    launch: tuple[Launch, ...] = ("eager",)

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
        for each in product(self.features, self.batch, self.dtype, self.launch):
            (inputs, outputs), batch, dtype, launch = each
            yield Layer(batch, inputs, outputs, drops, self.product, self.contenders, dtype, launch)


@dataclass(frozen=True)
class StepAxes:
    """Training steps, every value of an axis with every other."""

    batch: tuple[int, ...] = (128, 256, 1024)
    hidden: tuple[int, ...] = (2048,)
    optimizer: tuple[OptimizerName, ...] = ("momentum",)
    p: tuple[float, ...] = (0.5,)
    rows: tuple[int, ...] = (128,)
    cols: tuple[int, ...] = (32,)
    method: tuple[Method, ...] = ("block",)
    contenders: tuple[str, ...] = (*DENSE, "dropgemm", "dropgemm SGD")
    dtype: tuple[Number, ...] = ("float32",)
    launch: tuple[Launch, ...] = ("eager",)

    def cases(self) -> Iterator[Step]:
        """Every network; the methods are measured side by side."""
        sizes = product(self.hidden, self.optimizer, self.batch, self.p, self.rows)
        for (hidden, optimizer, batch, p, rows), cols, dtype, launch in product(
            sizes, self.cols, self.dtype, self.launch
        ):
            yield Step(
                batch, hidden, optimizer, p, rows, self.method, self.contenders, cols, dtype, launch
            )


Axes = LayerAxes | StepAxes
Case = Layer | Step


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
