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
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import accuracies
import goals
import gpu_goals
import grids
from cases import ALL_PRODUCTS, PRODUCTS, dropped_by
from record import load, result_names
from rows import Row, ceilings, markdown, pick, shape, source, spread, times

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md", "bench/README.md", "bench/results/README.md",
    "python/dropgemm/torch/README.md", "src/cpu/README.md",
)  # fmt: skip
BLOCK = re.compile(
    r"(?P<begin><!-- bench/tables\.py: (?P<name>\S+) -->\n)(?P<body>.*?)"
    r"(?P<end><!-- end of (?P=name) -->)",
    re.DOTALL,
)

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
DROPPED_OF_MODELS = {"block": "blocks", "row": "row patterns", "gyro": "gyro"}
DROPPED_OF_LSTM = {
    "row": "inputs and output",
    "own:row": "and the hidden state, by patterns of its own",
    "units:row": "inputs, output and whole units",
}


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
        line += f", {machine['gpu']}" if "gpu" in machine else ""
        found[line] = None
    return "Measured on " + "; ".join(found) + ".\n"


def steps(name: str) -> str:
    """Whole training steps."""
    result = load(name)
    ours = [row for row in result["rows"] if row["contender"] in VARIANTS]
    # What all rows are stands before the table.
    variants = VARIANTS if len({row["contender"] for row in ours}) > 1 else defaultdict(str)
    rows = []
    for row in ours:
        same = {key: row[key] for key in ("batch", "hidden", "optimizer", "p")}
        (stock,) = pick(result["rows"], contender="stock", **same)
        rows.append(
            [
                f"784-{row['hidden']}-{row['hidden']}-10, {row['optimizer']}",
                f"{row['batch']}",
                METHODS[row["method"]] + variants[row["contender"]],
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
            if dropped_by(row) == drop and shape(row) == shape(whole)
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
    (stock,), (medium,) = (pick(rows, contender=name) for name in ("stock", "medium"))
    lines = [
        [
            f"{DROPPED_OF_LSTM[row['method']]}{VARIANTS[row['contender']]}",
            f"{stock['ms']:.0f} / {medium['ms']:.0f} ms",
            f"{row['ms']:.0f} ms ({spread(row['spread'])})",
            *(times(row, baseline) for baseline in ("stock", "medium")),
            f"{1 / row['work']:.2f}",
        ]
        for row in rows
        if row["contender"] in VARIANTS
    ]
    header = [
        "dropped", 'PyTorch, stock / "medium"', "dropgemm (spread)", "x stock", 'x "medium"',
        "ideal",
    ]  # fmt: skip
    return markdown(header, lines) + source("lstm")


def calls() -> str:
    """What calls cost where there is next to nothing to compute."""
    rows = load("calls")["rows"]
    parts = ("no gradients", "forward", "with backward")
    lines = []
    for name in dict.fromkeys(row["call"] for row in pick(rows, part="forward")):
        line = [name]
        for part in parts:
            found = pick(rows, call=name, part=part)
            line += [_microseconds(row) for row in found] or [""]
        lines.append(line)
    return markdown(["", *parts], lines) + source("calls")


def mask_calls() -> str:
    """What masks cost."""
    rows = load("calls")["rows"]
    drawn = pick(rows, part="drawn at once")
    lines = [
        [
            row["call"],
            _microseconds(row),
            *map(_microseconds, pick(rows, call=row["call"], part="by the operator")),
        ]
        for row in drawn
    ]
    return markdown(["", "drawn at once", "by the operator"], lines) + source("calls")


def _microseconds(row: Row) -> str:
    more = f", {row['more_us']:+.0f}" if "more_us" in row else ""
    return f"{row['us']:.0f} us{more}"


def models(name: str) -> str:
    """Parts of models: each method, and beside it under "medium"."""
    rows = load(name)["rows"]
    lines = []
    for row in pick(rows, contender="dropgemm"):
        case = {key: row[key] for key in ("activation", "batch", "p") if key in row}
        (stock,) = pick(rows, contender="stock", **case)
        (medium,) = pick(rows, contender="dropgemm medium", method=row["method"], **case)
        lines.append(
            [
                *(f"{value:g}" if key == "p" else f"{value}" for key, value in case.items()),
                DROPPED_OF_MODELS[row["method"]],
                f"{stock['ms']:.0f} ms",
                *(
                    cell
                    for own in (row, medium)
                    for cell in (
                        f"{own['ms']:.0f} ms ({spread(own['spread'])})",
                        f"{times(own, 'stock')} / {times(own, 'medium')}",
                    )
                ),
            ]
        )
    axes = list(case)
    header = [*axes, "dropped", "stock PyTorch", "dropgemm (spread)", 'x stock / "medium"']
    return markdown([*header, 'under "medium" (spread)', 'x stock / "medium"'], lines) + source(
        name
    )


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
    peak, bandwidth = ceilings(result["machine"]["threads"])
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
    bounds = (
        f"\n`machine.json`: peak {peak / 1e9:.0f} GFLOP/s, bandwidth {bandwidth / 1e9:.0f} GB/s."
    )
    return markdown([*header, "over the larger"], lines) + bounds + source("layer")


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
    "calls": calls,
    "mask_calls": mask_calls,
    "feedforward": lambda: models("feedforward"),
    "ensemble": lambda: models("ensemble"),
    "table7": table7,
    "floors": floors,
    "goals": goals.table,
    "gpu_goals": gpu_goals.table,
    "work": grids.work,
    "breakeven": grids.breakeven,
    "pays": grids.pays,
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
