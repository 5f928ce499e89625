"""The tables of results in the READMEs, made of bench/results/*.json.

    python bench/tables.py            rewrites every table
    python bench/tables.py --check    says which differ from what it would write

A table stands between two lines:

    <!-- bench/tables.py: NAME -->
    <!-- end of NAME -->
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import accuracies
import findings
from accuracies import markdown
from cases import ALL_PRODUCTS, PRODUCTS, dropped_by
from record import load, result_names

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "bench/README.md", "src/cpu/README.md")
BLOCK = re.compile(
    r"(?P<begin><!-- bench/tables\.py: (?P<name>\S+) -->\n)(?P<body>.*?)"
    r"(?P<end><!-- end of (?P=name) -->)",
    re.DOTALL,
)

Row = Mapping[str, Any]
STEP_BASELINES = {
    "stock": "x stock",
    "medium": 'x "medium"',
    "ready masks": "x ready masks",
    "index_select": "x `index_select`",
    "bf16": "x bf16",
}
VARIANTS = {
    "dropgemm": "",
    "dropgemm SGD": ", `dropgemm.torch.SGD`",
    "dropgemm medium": ', "medium"',
    "dropgemm bf16": ", bfloat16",
}
METHODS = {
    "block": "blocks of 128 rows x 32",
    "row": "row patterns",
    "tile": "tile patterns",
    "gyro": "gyro",
}
DROPPED_OF_LSTM = {
    "row": "inputs and output",
    "own:row": "and the hidden state, by patterns of its own",
    "units:row": "inputs, output and whole units",
}


def source(name: str) -> str:
    """Where a table comes from."""
    machine = load(name)["machine"]
    commit = machine["commit"] + (", uncommitted changes" if machine["uncommitted"] else "")
    return f"\n`{name}.json`: {machine['threads']} threads, {machine['date']}, commit {commit}.\n"


def pick(rows: Iterable[Row], **values: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in values.items())]


def times(row: Row, baseline: str) -> str:
    """The ratio to a baseline."""
    return f"{row['x'][baseline]:.2f}"


def spread(value: float) -> str:
    """In percent."""
    return f"{100 * value:.0f} %"


def machines() -> str:
    """The machines of all results of layers.py."""
    found: dict[str, None] = {}
    for result in result_names():
        content = load(result)
        if result.startswith("accuracy_") or "machine" not in content:
            continue
        machine = content["machine"]
        family = dict(re.findall(r"(cpu family|model) (\d+)", machine["cpu"]))
        name = re.sub(r"model name ([^,]*).*", r"\1", machine["cpu"])
        line = (
            f"{machine['cores']} cores of an {name} (family {family.get('cpu family', '?')} model "
            f"{family.get('model', '?')}), PyTorch {machine['torch'].partition('+')[0]}"
        )
        found[line] = None
    return "Measured on " + "; ".join(found) + ".\n"


def steps(name: str) -> str:
    """Whole training steps."""
    result = load(name)
    rows = []
    for row in result["rows"]:
        if row["contender"] not in VARIANTS:
            continue
        same = {key: row[key] for key in ("batch", "hidden", "optimizer", "p")}
        (stock,) = pick(result["rows"], contender="stock", **same)
        rows.append(
            [
                f"784-{row['hidden']}-{row['hidden']}-10, {row['optimizer']}",
                f"{row['batch']}",
                METHODS[row["method"]] + VARIANTS[row["contender"]],
                f"{stock['ms']:.1f} ms",
                f"{row['ms']:.1f} ms ({spread(row['spread'])})",
                *(times(row, b) if b in row["x"] else "" for b in STEP_BASELINES),
            ]
        )
    header = ["network, optimizer", "batch", "dropped", "stock PyTorch", "dropgemm (spread)"]
    header += STEP_BASELINES.values()
    return markdown(*_without_empty(header, rows)) + source(name)


def _without_empty(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """A table without columns that hold nothing, or one network in all rows."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    if len({row[0] for row in rows}) == 1:
        kept.remove(0)
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def layers(name: str) -> str:
    """The three products of layers."""
    result = load(name)
    rows = []
    for whole in pick(result["rows"], contender="dropgemm", part=ALL_PRODUCTS):
        drop = dropped_by(whole)
        each = [
            row
            for part in (*PRODUCTS, ALL_PRODUCTS)
            for row in pick(result["rows"], contender="dropgemm", part=part)
            if dropped_by(row) == drop and _shape(row) == _shape(whole)
        ]
        rows.append(
            [
                f"{whole['inputs']} x {whole['outputs']}, batch {whole['batch']}",
                drop,
                *(f"{times(row, 'stock')} / {times(row, 'medium')}" for row in each),
                spread(whole["x_spread"]["medium"]),
                times(whole, "index_select"),
                f"{1 / whole['work']:.2f}",
            ]
        )
    header = ["layer", "dropped", *PRODUCTS, "all three", "spread", "x `index_select`", "ideal"]
    return markdown(header, rows) + source(name)


def bf16() -> str:
    """Layers in bfloat16, against PyTorch's."""
    rows = load("bf16")["rows"]
    lines = []
    for row in rows:
        if row["contender"] not in VARIANTS or row["part"] != ALL_PRODUCTS:
            continue
        lines.append(
            [
                f"{row['inputs']} x {row['outputs']}, batch {row['batch']}",
                f"{dropped_by(row)}{VARIANTS[row['contender']]}",
                *(times(row, baseline) for baseline in ("stock", "medium", "bf16")),
                spread(row["x_spread"]["bf16"]),
            ]
        )
    header = ["layer", "dropped", "x stock", 'x "medium"', "x PyTorch's bf16", "spread"]
    return markdown(header, lines) + source("bf16")


def lstm() -> str:
    """Training steps of LSTM language models."""
    rows = load("lstm")["rows"]
    (stock,) = pick(rows, contender="stock")
    lines = [
        [
            DROPPED_OF_LSTM[row["method"]],
            f"{stock['ms']:.0f} ms",
            f"{row['ms']:.0f} ms ({spread(row['spread'])})",
            *(times(row, baseline) for baseline in ("stock", "medium")),
            f"{1 / row['work']:.2f}",
        ]
        for row in pick(rows, contender="dropgemm")
    ]
    header = ["dropped", "stock PyTorch", "dropgemm (spread)", "x stock", 'x "medium"', "ideal"]
    return markdown(header, lines) + source("lstm")


def _shape(row: Row) -> tuple[int, int, int]:
    return row["inputs"], row["outputs"], row["batch"]


def table7() -> str:
    """One side pruned, forward, against our own dense product."""
    rows = pick(load("table7")["rows"], contender="dropgemm")
    lines = []
    for p in sorted({row["p"] for row in rows}):
        sides = [pick(rows, p=p, side=side)[0] for side in ("input", "output")]
        cells = [f"{times(row, 'dense')} ({spread(row['x_spread']['dense'])})" for row in sides]
        lines.append([f"{p:g}", *cells, f"{1 / sides[0]['work']:.2f}"])
    header = ["p", "inputs dropped, x own dense (spread)", "outputs dropped", "ideal"]
    return markdown(header, lines) + source("table7")


def floors() -> str:
    """What the machine needs at least for the multiply-adds and for the bytes, and what we need."""
    result = load("layer")
    peak, bandwidth = _ceilings(result["machine"]["threads"])
    lines = []
    for row in pick(result["rows"], contender="dropgemm"):
        if row["part"] == ALL_PRODUCTS:
            continue
        work = 2 * row["work"] * row["batch"] * row["inputs"] * row["outputs"]
        operations, memory = 1e3 * work / peak, 1e3 * _least_bytes(row) / bandwidth
        lines.append(
            [
                f"{row['inputs']} x {row['outputs']}, batch {row['batch']}, p = {row['p']:g}",
                row["part"],
                f"{operations:.2f} ms",
                f"{memory:.2f} ms",
                f"{row['ms']:.2f} ms ({spread(row['spread'])})",
                f"{row['ms'] / max(operations, memory):.2f}",
            ]
        )
    header = ["layer", "product", "operations / peak", "bytes / bandwidth", "measured (spread)"]
    ceilings = (
        f"\n`machine.json`: peak {peak / 1e9:.0f} GFLOP/s, bandwidth {bandwidth / 1e9:.0f} GB/s."
    )
    return markdown([*header, "over the larger"], lines) + ceilings + source("layer")


def _ceilings(threads: int) -> tuple[float, float]:
    """FLOP/s and bytes/s of the machine, each the most of its repetitions."""
    rows = load("machine")["benchmarks"]

    def most(what: str, counter: str) -> float:
        name = f"{what}/threads:{threads}/real_time"
        found = pick(rows, run_name=name, run_type="iteration")
        return max(float(row[counter]) for row in found)

    return most("multiply_add", "FLOP/s"), most("read", "bytes/s")


def _least_bytes(row: Row) -> float:
    """Of float32 operands what is kept, of results everything, of blocks on both sides.

    Each group of rows reads its own part of the weight; what two of them read comes once.
    """
    batch, inputs, outputs = row["batch"], row["inputs"], row["outputs"]
    kept, groups = row["work"] ** 0.5, -(-batch // (row["rows"] or batch))
    x, y, w = batch * inputs, batch * outputs, inputs * outputs
    read_weight = w * (1 - (1 - row["work"]) ** groups)
    elements = {
        "forward": x * kept + read_weight + y,
        "input gradient": y * kept + read_weight + x,
        "weight gradient": (x + y) * kept + w,
    }
    return 4 * float(elements[row["part"]])


def work() -> str:
    """Time against kept work."""
    fits = findings.fits(load("work")["rows"])
    lines = []
    totals = [fit for fit in fits if fit.part == ALL_PRODUCTS]
    for whole in sorted(totals, key=lambda fit: (fit.inputs, fit.outputs, fit.batch)):
        same = [fit for fit in fits if (fit.inputs, fit.batch) == (whole.inputs, whole.batch)]
        worst = [fit.worst for fit in same if fit.part != ALL_PRODUCTS and fit.worst is not None]
        lines.append(
            [
                f"{whole.inputs} x {whole.outputs}",
                f"{whole.batch}",
                *(f"{fit.a:.3g} + {fit.b:.3g}" for fit in same if fit.part != ALL_PRODUCTS),
                f"{max(worst):+.0%}" if worst else "",
            ]
        )
    header = ["layer", "batch", *(f"{part}, a + b ms" for part in PRODUCTS), "worst excess"]
    return markdown(header, lines) + source("work")


def breakeven() -> str:
    """Pruned over own dense at small rates, and own dense over "medium": the worst product."""
    rows = load("breakeven")["rows"]
    products = [row for row in rows if row["part"] in PRODUCTS]
    kinds = sorted({(row["p"], row["side"]) for row in pick(rows, contender="dropgemm")})
    lines = []
    for shape in sorted({_shape(row) for row in products}):
        here = [row for row in products if _shape(row) == shape]

        def least(baseline: str, **values: Any) -> str:
            return f"{min(row['x'][baseline] for row in pick(here, **values)):.2f}"  # noqa: B023

        pruned = [least("dense", contender="dropgemm", p=p, side=side) for p, side in kinds]
        dense = least("medium", contender="dense")
        lines.append([f"{shape[0]} x {shape[1]}", f"{shape[2]}", *pruned, dense])
    names = [f"p = {p:g}, {'both' if side == 'both' else 'one side'}" for p, side in kinds]
    header = ["layer", "batch", *names, 'own dense, x "medium"']
    return markdown(header, lines) + source("breakeven")


def pays() -> str:
    """From which rate on no product is slower than our own dense one: both sides / one side."""
    found = [row for row in load("breakeven")["rows"] if row["part"] in PRODUCTS and row.get("p")]
    rows = pick(found, contender="dropgemm")
    batches = sorted({row["batch"] for row in rows})
    rates = sorted({row["p"] for row in rows})

    def least(here: list[Row]) -> str:
        lost = [row["p"] for row in here if row["x"]["dense"] < 1]
        enough = [p for p in rates if not lost or p > max(lost)]
        return f"{enough[0]:g}" if enough else f"over {rates[-1]:g}"

    lines = []
    for layer in sorted({_shape(row)[:2] for row in rows}):
        cells = []
        for batch in batches:
            here = [row for row in rows if _shape(row) == (*layer, batch)]
            both = pick(here, side="both")
            one = [row for row in here if row not in both]
            cells.append(f"{least(both)} / {least(one)}" if here else "")
        lines.append([f"{layer[0]} x {layer[1]}", *cells])
    header = ["layer", *(f"batch {batch}" for batch in batches)]
    return markdown(header, lines) + source("breakeven")


TABLES: dict[str, Callable[[], str]] = {
    "machines": machines,
    "step": lambda: steps("step"),
    "optimizer": lambda: steps("optimizer"),
    "step_bf16": lambda: steps("step_bf16"),
    "layer": lambda: layers("layer"),
    "pattern": lambda: layers("pattern"),
    "searched": lambda: layers("searched"),
    "bf16": bf16,
    "lstm": lstm,
    "table7": table7,
    "floors": floors,
    "work": work,
    "breakeven": breakeven,
    "pays": pays,
    "accuracy": accuracies.blocks,
    "accuracy_patterns": accuracies.patterns,
}


def filled(text: str) -> str:
    """A document with every table made anew. Raises ValueError for a table that is none."""

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"{name}: expected a table of {', '.join(TABLES)}")
        return f"{match['begin']}\n{TABLES[name]()}\n{match['end']}"

    return BLOCK.sub(replaced, text)


def differing() -> Iterator[tuple[Path, str]]:
    """Documents that do not say what the results say, and what they would."""
    for path in (ROOT / name for name in DOCUMENTS):
        text = path.read_text()
        if (wanted := filled(text)) != text:
            yield path, wanted


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the tables, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(arguments)
    stale = False
    for path, wanted in differing():
        stale = True
        print(f"{path.relative_to(ROOT)}: {'differs' if args.check else 'rewritten'}")
        if not args.check:
            path.write_text(wanted)
    return int(stale and args.check)


if __name__ == "__main__":
    sys.exit(main())
