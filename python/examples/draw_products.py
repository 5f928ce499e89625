"""Draw the picture of the README: what block-wise gyro dropout leaves of a layer's three products.

python python/examples/draw_products.py .assets/products.png
"""

import sys

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

import dropgemm as dg

BATCH, IN, OUT = 512, 384, 512
COLOURS = ListedColormap(["#e8eaed", "#1f6feb"])


def mask(features: int, site: int) -> np.ndarray:
    """Draw one step's mask of a site: bool [BATCH, features], blocks of 128 x 32."""
    schedule = dg.GyroSchedule(
        features, 0.5, total_steps=1000, seed=1, site=site, tile_rows=128, tile_cols=32,
        subnets=64, coscheduled=4,
    )  # fmt: skip
    return schedule.mask(0, BATCH).to_dense()


def main(path: str) -> None:
    """Draw the three products as grids of blocks, blue where something is left to compute."""
    inputs, outputs = mask(IN, 0), mask(OUT, 1)
    groups = np.arange(0, BATCH, 128)
    # A block of dW is summed over the row groups that keep both its row and its column.
    left = np.mean([np.outer(outputs[g], inputs[g]) for g in groups], axis=0)
    figure = Figure(figsize=(11, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    panels = [
        (axes[0], inputs, "X, and dX = dZ W", "features in", "batch"),
        (axes[1], outputs, "Y = X Wᵀ, and dZ", "features out", "batch"),
        (axes[2], left, "dW = dZᵀ X (shade: share of row groups)", "features in", "features out"),
    ]
    for axis, values, title, x, y in panels:
        plain = np.isin(values, (0, 1)).all()
        axis.imshow(values, cmap=COLOURS if plain else "Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(x, fontsize=9)
        axis.set_ylabel(y, fontsize=9)
        axis.set_xticks(np.arange(0, values.shape[1], 32) - 0.5, [])
        height = 32 if values is left else 128
        axis.set_yticks(np.arange(0, values.shape[0], height) - 0.5, [])
        axis.grid(color="white", linewidth=0.8)
        axis.tick_params(length=0)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
