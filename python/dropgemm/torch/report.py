"""What convert says about a model: a table of its sites, warnings, and what was left alone."""

from __future__ import annotations

import numpy as np

from dropgemm import _core
from dropgemm.framework import bits_shape, ceil_div
from dropgemm.torch.chain import Link
from dropgemm.torch.draws import GyroDraws, PatternDraws
from dropgemm.torch.site import Site

_BATCH = 1024  # rows that products are planned for
_RATE_SLACK = 0.02  # how far a fixed keep rate may be off 1 - p without a word

_COLUMNS = (
    "site", "dropout", "method", "p", "features", "keeps", "output side", "input side",
    "mask and scale",
)  # fmt: skip


def site_table(sites: list[Site], links: list[Link]) -> list[str]:
    """A line of headings and a line for each site, in columns."""
    rows = [_COLUMNS, *(_row(site, link) for site, link in zip(sites, links, strict=True))]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def remarks(site: Site, link: Link) -> list[str]:
    """What a reader should know about a site besides its line: sides left out, rates missed."""
    lines = []
    if link.reason:
        lines.append(f"site {site.id}: {link.reason}")
    off = abs(site.keep_rate - (1.0 - site.p))
    if site.method == "block" and off > _RATE_SLACK:
        lines.append(
            f"warning: site {site.id} keeps {site.keep_rate:.3f} of its features, where "
            f"p={site.p} asks for {1.0 - site.p:.3f}" + _finer_tiles(site)
        )
    if isinstance(site.draws, PatternDraws):
        if collapse := site.draws.collapse():
            lines.append(f"warning: site {site.id}: {collapse}")
        idle = _idle_products(site) if site.method == "tile" else []
        if idle:
            height, width = site.settings.weight_tile
            lines.append(
                f"site {site.id}: with {height}x{width} tiles of a weight of {site.outputs} x "
                f"{site.features} nothing is skipped in {', '.join(idle)}; the results are "
                "right all the same"
            )
    return lines


def _idle_products(site: Site) -> list[str]:
    """The products of a layer with this site's weight that skip none of its tiles."""
    if site.outputs is None or site.features is None or site.keep_rate == 0.0:
        return []
    weight, tile = (site.outputs, site.features), site.settings.weight_tile
    shapes = (_BATCH, site.features), weight, (_BATCH, site.outputs)
    x, w, y = (np.empty(shape, np.float32) for shape in shapes)  # which nobody looks into
    bits = np.zeros(bits_shape(weight, tile), np.uint32)
    mask = (bits, *weight, *tile, site.keep_rate, False)
    plans = {
        "forward": _core.matmul_plan(x, w, y, b_mask=mask, trans_b=True, backend="cpu"),
        "input gradient": _core.matmul_plan(y, w, x, b_mask=mask, backend="cpu"),
        "weight gradient": _core.matmul_plan(y, x, w, d_mask=mask, trans_a=True, backend="cpu"),
    }
    # The path that applies masks while it packs.
    return [name for name, plan in plans.items() if plan.split()[0] == "select"]


def _row(site: Site, link: Link) -> tuple[str, ...]:
    producers = [link.producer] if link.producer is not None and site.skips_outputs else []
    sides = [", ".join(f"'{name}'" for name, _ in side) for side in (producers, link.consumers)]
    if site.method == "tile":  # which has none
        sides = ["", ""]
    if site.folded:
        assert link.consumer is not None
        applied = f"in '{link.consumer[0]}'"
    else:
        applied = "a pass of its own"
    if link.relu is not None:
        applied += f", ReLU '{link.relu[0]}' in both products"
    return (
        str(site.id), f"'{link.name}'", site.method, f"{site.p:g}",
        "-" if site.features is None else str(site.features), _keeps(site),
        *(side or "-" for side in sides), applied,
    )  # fmt: skip


def _keeps(site: Site) -> str:
    if isinstance(site.draws, PatternDraws):
        if site.draws.distribution is None:
            return "nothing"
        height, width = site.settings.weight_tile
        what = "neurons" if site.method == "row" else f"{height}x{width} tiles"
        drawn = site.draws.distribution.probabilities.nonzero()[0] + 1
        periods = f"{drawn[0]}" if len(drawn) == 1 else f"{drawn[0]}..{drawn[-1]}"
        return f"1 in {periods} {what}, {site.keep_rate:.3f} in the mean"
    exact = isinstance(site.draws, GyroDraws) and site.draws.exact
    if site.method == "block" and site.features:
        tiles = ceil_div(site.features, site.settings.tile_cols)
        kept = f"{round(site.keep_rate * tiles)}" if exact else f"{site.keep_rate * tiles:.1f}"
        return f"{kept} of {tiles} tiles" + ("" if exact else " in the mean")
    return f"{site.keep_rate:.3f} of the neurons" + ("" if exact else " in the mean")


def _finer_tiles(site: Site) -> str:
    """The widest tile below the site's that comes near the rate, as advice."""
    width = site.settings.tile_cols // 2
    while width >= 1 and site.features:
        tiles = ceil_div(site.features, width)
        kept = _core.keep_count(site.p, tiles) / tiles
        if abs(kept - (1.0 - site.p)) <= _RATE_SLACK:
            return f"; tile_cols={width} would keep {kept:.3f}"
        width //= 2
    return ""
