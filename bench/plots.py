"""A picture of a result file of layers.py, beside it.

    python bench/plots.py work layer

Of "work" time against kept work, a panel a width; of the others bars: how many times faster than
PyTorch under "medium", spreads as whiskers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import record
from cases import ALL_PRODUCTS, dropped_by
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = Mapping[str, Any]


def _work(rows: list[Row]) -> Figure:
    """Time over the dense time against kept work, all three products together."""
    whole = [row for row in rows if row["part"] == ALL_PRODUCTS]
    widths = sorted({row["inputs"] for row in whole})
    across, down = min(3, len(widths)), -(-len(widths) // 3)
    figure = Figure(figsize=(3.2 * across, 3 * down))
    panels = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for panel, width in zip(panels, widths, strict=False):
        _lines(panel, [row for row in whole if row["inputs"] == width])
        panel.set_title(f"{width} x {width}")
    for panel in panels[len(widths) :]:
        panel.set_axis_off()
    figure.supxlabel("kept share of the multiply-adds")
    figure.supylabel("time over the dense time")
    return figure


def _lines(panel: Axes, rows: list[Row]) -> None:
    panel.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
    for batch in sorted({row["batch"] for row in rows}):
        points = sorted((row["work"], row["ms"]) for row in rows if row["batch"] == batch)
        dense = points[-1][1]
        x, y = [work for work, _ in points], [ms / dense for _, ms in points]
        panel.plot(x, y, marker=".", label=f"batch {batch}")
    panel.set_xlim(0, 1.02)
    panel.set_ylim(0, 1.2)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=6)


def _bars(rows: list[Row]) -> Figure:
    """Every contender's speedup over "medium", of all three products or of the step."""
    last = [row for row in rows if row["part"] == rows[-1]["part"] and "medium" in row["x"]]
    labels = [f"{_shape(row)}: {row['contender']} {dropped_by(row)}" for row in last]
    x = [row["x"]["medium"] for row in last]
    spreads = [ratio * row["x_spread"]["medium"] / 2 for ratio, row in zip(x, last, strict=True)]
    figure = Figure(figsize=(9, 1 + 0.2 * len(last)))
    panel = figure.subplots()
    panel.barh(range(len(last)), x, xerr=spreads, height=0.7)
    panel.set_yticks(range(len(last)), labels, fontsize=6)
    panel.invert_yaxis()
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_xlabel('times faster than PyTorch under "medium"')
    panel.grid(alpha=0.3, axis="x")
    return figure


def _shape(row: Row) -> str:
    if "inputs" in row:
        return f"{row['inputs']} x {row['outputs']}, batch {row['batch']}"
    return f"{row['hidden']}, {row['optimizer']}, batch {row['batch']}"


def draw(name: str) -> Path:
    """Draw the results of a name; returns the picture's path. Raises ValueError for others'."""
    results = record.load(name)
    if "set" not in results:
        raise ValueError(f"{name}: expected results of layers.py")
    figure = (_work if results["set"] == "work" else _bars)(results["rows"])
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    path = record.path_of(name).with_suffix(".png")
    figure.savefig(path, dpi=120)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="of bench/results/NAME.json")
    args = parser.parse_args(arguments)
    for name in args.names:
        if not record.path_of(name).exists():
            parser.error(f"expected one of {', '.join(record.result_names())}, got {name}")
        try:
            print(draw(name))
        except ValueError as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
