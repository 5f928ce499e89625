"""Tables of the grids: time against kept work, and where pruning starts to pay."""

from __future__ import annotations

import findings
from cases import ALL_PRODUCTS, PRODUCTS
from record import load
from rows import Row, markdown, pick, shape, source


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
    """Pruned over own dense at small rates, and own dense over "medium": the worst product.

    What is below its bound is bold; corners of the grid that are not measured are empty.
    """
    rows = load("breakeven")["rows"]
    products = [row for row in rows if row["part"] in PRODUCTS]
    kinds = sorted({(row["p"], row["side"]) for row in pick(rows, contender="dropgemm")})
    lines = []
    for layer in sorted({shape(row) for row in products}):
        here = [row for row in products if shape(row) == layer]
        pruned = [pick(here, contender="dropgemm", p=p, side=side) for p, side in kinds]
        dense = _least(pick(here, contender="dense"), "medium", findings.LEAST_OVER_MEDIUM)
        cells = [_least(each, "dense", findings.LEAST_OVER_DENSE) for each in pruned]
        lines.append([f"{layer[0]} x {layer[1]}", f"{layer[2]}", *cells, dense])
    names = [f"p = {p:g}, {'both' if side == 'both' else 'one side'}" for p, side in kinds]
    header = ["layer", "batch", *names, 'own dense, x "medium"']
    return f"{markdown(header, lines)}\n{_lost(products)}\n{source('breakeven')}"


def _least(rows: list[Row], baseline: str, bound: float) -> str:
    if not rows:
        return ""
    ratio = min(float(row["x"][baseline]) for row in rows)
    return f"{ratio:.2f}" if ratio >= bound else f"**{ratio:.2f}**"


def _lost(products: list[Row]) -> str:
    """How many products are below their bound, and how many of these clearly."""
    lost = list(findings.losses(products))
    words = []
    for contender, baseline, least in (
        ("dropgemm", "dense", findings.LEAST_OVER_DENSE),
        ("dense", "medium", findings.LEAST_OVER_MEDIUM),
    ):
        mine = [loss for loss in lost if loss.baseline == baseline]
        clear = sum(loss.clear for loss in mine)
        against = "pruned products are below {} of our own dense ones"
        if contender == "dense":
            against = 'dense ones below {} of "medium"'
        count = len(pick(products, contender=contender))
        words.append(f"{len(mine)} of {count} {against.format(least)} ({clear} by more than noise)")
    return f"Of single products {', '.join(words)}; noise is half the interquartile range.\n"


def pays() -> str:
    """From which rate on no product is slower than our own dense one: both sides / one side."""
    found = [row for row in load("breakeven")["rows"] if row["part"] in PRODUCTS and row.get("p")]
    rows = pick(found, contender="dropgemm")
    batches = sorted({row["batch"] for row in rows})
    rates = sorted({row["p"] for row in rows})

    def least(here: list[Row]) -> str:
        if not here:
            return "?"
        lost = [row["p"] for row in here if row["x"]["dense"] < 1]
        enough = [p for p in rates if not lost or p > max(lost)]
        return f"{enough[0]:g}" if enough else f"over {rates[-1]:g}"

    lines = []
    for layer in sorted({shape(row)[:2] for row in rows}):
        cells = []
        for batch in batches:
            here = [row for row in rows if shape(row) == (*layer, batch)]
            both = pick(here, side="both")
            one = [row for row in here if row not in both]
            cells.append(f"{least(both)} / {least(one)}" if here else "")
        lines.append([f"{layer[0]} x {layer[1]}", *cells])
    header = ["layer", *(f"batch {batch}" for batch in batches)]
    return markdown(header, lines) + source("breakeven")
