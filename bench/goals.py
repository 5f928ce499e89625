"""The goals of this project for speed, what was measured, and why what is missed is missed.

Beside each ratio stands what it would be if multiply-adds at the machine's peak were all that takes
time. Where that is below the goal no product can reach it on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import findings
from cases import ALL_PRODUCTS, PRODUCTS
from record import load
from rows import Row, ceilings, markdown, pick, shape, spread

Floor = Callable[[Row], float]  # multiply-adds that a row's work cannot do without

NAMES = {
    "stock": "stock",
    "medium": '"medium"',
    "bf16": "bf16",
    "dense": "our own dense",
}


@dataclass(frozen=True)
class Goal:
    """Speedups over some baselines, one for each row, or one that all rows have to reach."""

    work: str
    results: str  # the file
    rows: Sequence[Mapping[str, Any]]  # what tells each row from the others of the file
    least: Mapping[str, Sequence[float]]  # by baseline
    why: str = ""  # of a goal that is missed in reach: what takes time besides multiply-adds
    floor: Floor | None = None  # None where the machine's peak for such numbers is not measured


def _layer(batch: int, features: int = 2048, **axes: Any) -> dict[str, Any]:
    return {
        "contender": "dropgemm", "part": ALL_PRODUCTS, "batch": batch, "inputs": features,
        "outputs": features, **axes,
    }  # fmt: skip


def products_work(row: Row) -> float:
    """Of a layer: of three products, or of one."""
    inputs, outputs, batch = shape(row)
    return float((3 if row["part"] == ALL_PRODUCTS else 1) * row["work"] * inputs * outputs * batch)


def _step(row: Row) -> float:
    """Of the MLP 784-hidden-hidden-10 with blocks of both hidden layers dropped."""
    keep, hidden, batch = 1 - row["p"], row["hidden"], row["batch"]
    first, middle, last = 784 * hidden * keep, (hidden * keep) ** 2, hidden * keep * 10
    return float(
        batch * (2 * first + 3 * middle + 3 * last)
    )  # nobody asks for the inputs' gradient


def _ensemble(row: Row) -> float:
    """Of the MLP 784-2048-2048-10: its first layer once, the others for each subnet."""
    kept = 2048 * (1 - row["p"])
    return float(row["batch"] * (784 * 2048 + row["subnets"] * (kept**2 + kept * 10)))


def _lstm(row: Row) -> float:
    """Of the LSTM language model: products of all steps with inputs, hidden states and words."""
    layers, hidden = row["layers"], row["hidden"]
    dense = hidden * (8 * layers * hidden + row["vocabulary"])
    return float(3 * row["work"] * row["batch"] * row["length"] * dense)


BATCHES = (128, 256, 1024)
ACTIVATIONS = ("gelu", "relu")
PACKING = (
    "The rest is packing what is kept of both operands and writing the zeros of what is "
    "dropped ([where the time goes](../src/cpu/README.md#sizes))."
)
GROUPS = (
    "At batch 256 two groups of rows pack nearly twice of the weight what one does, and half of "
    "the weight gradient is zeros that go to memory "
    "([where the time goes](../src/cpu/README.md#sizes))."
)
GOALS = (
    Goal(
        "step of the MLP 784-2048-2048-10, momentum, batch 128 / 256 / 1024", "step",
        [{"contender": "dropgemm SGD", "method": "block", "batch": b} for b in BATCHES],
        {"stock": (6, 6.5, 7.5), "medium": (3.3, 3.5, 4.4)},
        "The rest is packing, zeros, the update of 5.8 million weights, the loss and Python "
        "([a whole step](../src/cpu/README.md#a-whole-step-and-what-did-not-pay)).", _step,
    ),
    Goal(
        "layer 2048 x 2048, three products, batch 128 / 256 / 1024", "layer",
        [_layer(b, p=0.5) for b in BATCHES], {"stock": (7.5,), "medium": (3.5,)},
        GROUPS, products_work,
    ),
    Goal(
        "layer 1024 x 1024, batch 256", "layer", [_layer(256, 1024, p=0.5)],
        {"stock": (6.5,), "medium": (3.0,)}, GROUPS, products_work,
    ),
    Goal(
        "layer 2048 x 2048, one pattern of blocks a batch, batch 128 / 256 / 1024", "pattern",
        [_layer(b, method="block") for b in BATCHES], {"stock": (8.5,), "medium": (3.8,)},
        PACKING, products_work,
    ),
    Goal(
        "layer 2048 x 2048, row patterns of period 2, batch 128 / 256 / 1024", "pattern",
        [_layer(b, method="row", period=2) for b in BATCHES], {"stock": (8.5,), "medium": (3.8,)},
        "Every second neuron is picked out of lines that are read and written whole "
        "([how columns are picked](../src/cpu/README.md#how-columns-are-picked-and-spread)).",
        products_work,
    ),
    Goal(
        "layer 2048 x 2048, mean over the searched row patterns, p = .5, batch 128 / 256 / 1024",
        "searched", [_layer(b, method="row") for b in BATCHES],
        {"stock": (6,), "medium": (2.7,)}, PACKING, products_work,
    ),
    Goal(
        "layer 2048 x 2048, batch 1024, p = .75", "layer", [_layer(1024, p=0.75)],
        {"stock": (18,), "medium": (8,)}, PACKING, products_work,
    ),
    Goal(
        "layer 2048 x 2048, batch 1024, tile patterns of period 2 / 4", "pattern",
        [_layer(1024, method="tile", period=period) for period in (2, 4)],
        {"stock": (4.2, 8), "medium": (1.9, 3.6)}, PACKING, products_work,
    ),
    Goal(
        "layer 2048 x 2048, bfloat16 arrays, batch 128 / 256 / 1024", "bf16",
        [{**_layer(b), "contender": "dropgemm bf16"} for b in BATCHES], {"bf16": (3.8,)},
        "A product in bfloat16 takes half the time of float32's, packing and zeros do not.",
    ),
    *(
        Goal(
            f"forward of 1024 x 1024, batch 256, {side}s dropped, p = .1 / .25 / .5 / .75",
            "table7",
            [{"contender": "dropgemm", "side": side, "p": p} for p in (0.1, 0.25, 0.5, 0.75)],
            {"dense": (1.08, 1.3, 1.9, 3.6)}, why, products_work,
        )
        for side, why in (
            ("input", "Of the weight two groups of rows pack nearly all."),
            ("output", "The inputs are packed whole, and the zeros of all outputs are written."),
        )
    ),
    Goal(
        "feed-forward of a transformer layer, blocks, p = .1, GELU / ReLU", "feedforward",
        [
            {"contender": "dropgemm", "method": "block", "p": 0.1, "activation": a}
            for a in ACTIVATIONS
        ],
        {"stock": (1,), "medium": (1,)}, "",
    ),
    Goal(
        'the same under "medium", row patterns, p = .5', "feedforward",
        [
            {"contender": "dropgemm medium", "method": "row", "p": 0.5, "activation": a}
            for a in ACTIVATIONS
        ],
        {"stock": (4.5,), "medium": (2,)}, "",
    ),
    Goal(
        "step of the LSTM language model, row patterns of inputs and output, p = .5", "lstm",
        [{"contender": "dropgemm", "method": "row"}], {"stock": (2.5,), "medium": (1.3,)},
        "Two thirds of the multiply-adds are left, as nothing is dropped of the hidden state.",
        _lstm,
    ),
    Goal(
        'the same under "medium"', "lstm", [{"contender": "dropgemm medium", "method": "row"}],
        {"stock": (2.5,), "medium": (1.3,)}, "",
    ),
    Goal(
        "sixteen subnets of the MLP 784-2048-2048-10, p = .5, batch 64 / 128 / 256 / 1024",
        "ensemble",
        [{"contender": "dropgemm", "method": "block", "batch": b} for b in (64, *BATCHES)],
        {"stock": (5,), "medium": (2.5,)},
        "Activations are sixteen times as large, zeros among them, and go to memory and back.",
        _ensemble,
    ),
    Goal(
        'the same under "medium"', "ensemble",
        [{"contender": "dropgemm medium", "method": "block", "batch": b} for b in (64, *BATCHES)],
        {"stock": (5,), "medium": (2.5,)}, "",
    ),
)  # fmt: skip


def _found(goal: Goal) -> list[Row]:
    rows = load(goal.results)["rows"]
    found = [pick(rows, **values) for values in goal.rows]
    for values, each in zip(goal.rows, found, strict=True):
        if len(each) != 1:
            raise ValueError(f"{goal.results}.json: expected one row of {values}, got {len(each)}")
    return [row for (row,) in found]


def _peak_ms(goal: Goal, row: Row) -> float:
    """What multiply-adds at the machine's peak take."""
    if goal.floor is None:
        return 0.0
    peak, _ = ceilings(load(goal.results)["machine"]["threads"])
    return 2e3 * goal.floor(row) / peak


def _joined(values: Sequence[str]) -> str:
    """Values side by side; once where all are the same."""
    return " / ".join(values if len(set(values)) > 1 else values[:1])


@dataclass(frozen=True)
class Ratio:
    """One row's speedup over one baseline, beside its goal."""

    least: float
    reached: float
    spread: float
    at_peak: float | None  # where multiply-adds at the machine's peak would be all that takes time

    @property
    def missed(self) -> bool:
        """Whether it is below its goal, as both are printed."""
        return round(self.reached, 2) < self.least

    @property
    def in_reach(self) -> bool:
        """Whether the machine would allow the goal."""
        return self.at_peak is None or self.at_peak >= self.least


def _ratios(goal: Goal, baseline: str) -> list[Ratio]:
    rows, least = _found(goal), goal.least[baseline]
    found = []
    for row, wanted in zip(rows, least * len(rows) if len(least) == 1 else least, strict=True):
        x = float(row["x"][baseline])
        at_peak = x * row["ms"] / _peak_ms(goal, row) if goal.floor is not None else None
        found.append(Ratio(wanted, x, float(row["x_spread"][baseline]), at_peak))
    return found


def speedups(goal: Goal, names: Mapping[str, str] = NAMES) -> tuple[list[list[str]], str]:
    """The lines of a goal, one a baseline, and why some are missed. names: of the baselines."""
    lines, missed = [], {}
    for baseline in goal.least:
        ratios = _ratios(goal, baseline)
        missed[names[baseline]] = [ratio for ratio in ratios if ratio.missed]
        count = sum(not ratio.missed for ratio in ratios)
        lines.append(
            [
                goal.work,
                names[baseline],
                _joined([f"{ratio.least:g}" for ratio in ratios]),
                " / ".join(f"{ratio.reached:.2f}" for ratio in ratios)
                + f" ({spread(max(ratio.spread for ratio in ratios))})",
                _joined([f"{r.at_peak:.1f}" for r in ratios if r.at_peak is not None]),
                f"{count} of {len(ratios)}" if count < len(ratios) else "yes",
            ]
        )
    near = [name for name, all_of in missed.items() if any(not each.in_reach for each in all_of)]
    too_near = "so near the peak that multiply-adds alone would miss the goal"
    why = [f"PyTorch ({', '.join(near)}) is {too_near}." if near else ""]
    why += [goal.why if any(each.in_reach for all_of in missed.values() for each in all_of) else ""]
    return lines, " ".join(filter(None, why))


def _proportional() -> tuple[list[str], str]:
    """Time against kept work."""
    fits = [fit for fit in findings.fits(load("work")["rows"]) if fit.part in PRODUCTS]
    excess = [fit.worst for fit in fits if fit.worst is not None]
    near = sum(value <= 0.15 for value in excess)
    line = [
        "time over its share of the dense time, from a quarter of the work, batch 256 and 1024 "
        "features on",
        "our own dense",
        "at most +15 %",
        f"at most {max(excess):+.0%}".replace("%", " %"),
        "",
        f"{near} of {len(excess)}" if near < len(excess) else "yes",
    ]
    why = (
        "Writing all of the result and packing by whole lines do not shrink with the work, and "
        "weigh most where a quarter is left "
        "([the table](results/README.md#time-against-kept-work))."
    )
    return line, why if near < len(excess) else ""


def _never_slower() -> Iterator[tuple[list[str], str]]:
    """Products that drop little, and dense ones."""
    products = [row for row in load("breakeven")["rows"] if row["part"] in PRODUCTS]
    features, batches = ({row[axis] for row in products} for axis in ("inputs", "batch"))
    grid = f"{min(features)} to {max(features)} features, batch {min(batches)} to {max(batches)}"
    for contender, baseline, least, work, why in (
        (
            "dropgemm", "dense", findings.LEAST_OVER_DENSE, "p = 0 / .05 / .1, one side and both",
            "The smallest products cost as much to begin as to do, and bits are read before "
            "anything is skipped ([the table](results/README.md#where-pruning-starts-to-pay)).",
        ),
        (
            "dense", "medium", findings.LEAST_OVER_MEDIUM, "nothing dropped, no mask",
            "The smallest products cost as much to begin as to do "
            "([the table](results/README.md#where-pruning-starts-to-pay)).",
        ),
    ):  # fmt: skip
        ratios = [float(row["x"][baseline]) for row in pick(products, contender=contender)]
        reached = sum(x >= least for x in ratios)
        line = [
            f"each product of a layer, {work}: {grid}",
            NAMES[baseline],
            f"{least:g}",
            f"at least {min(ratios):.2f}",
            "",
            f"{reached} of {len(ratios)}" if reached < len(ratios) else "yes",
        ]
        yield line, why if reached < len(ratios) else ""


def table() -> str:
    """Every goal, what was measured, and for each that was missed a sentence."""
    found = [speedups(goal) for goal in GOALS]
    found += [([line], why) for line, why in (_proportional(), *_never_slower())]
    header = ["work", "against", "goal", "measured (spread)", "at peak", "reached"]
    lines = [line for lines, _ in found for line in lines]
    missed = "".join(f"- {lines[0][0]}: {why}\n" for lines, why in found if why)
    return f"{markdown(header, lines)}\n" + (f"What is missed, and why:\n\n{missed}" * bool(missed))
