"""What masks leave of a layer's three products, counted on the masks themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dropgemm import _core
from dropgemm.tile_mask import TileMask

Share = npt.NDArray[np.float64]
Masked = tuple[tuple[int, int], TileMask | None]  # the shape of an operand, and its mask


class LayerMasks(NamedTuple):
    """The masks of a layer Y = X W^T; None where nothing is dropped."""

    batch: int
    in_features: int
    out_features: int
    inputs: TileMask | None = None  # of X and dX [batch, in]
    outputs: TileMask | None = None  # of Y and dZ [batch, out]
    weights: TileMask | None = None  # of W and dW [out, in]


class Product(NamedTuple):
    """One product of a layer: its name, how it is written, and the share left of each element."""

    name: str
    formula: str
    depth_left: Share  # of each element of the result, the share of its sum that is computed
    skips: bool  # whether the product skips what is dropped, or merely overwrites it

    @property
    def work(self) -> float:
        """The share of the multiply-adds of the dense product that is computed."""
        return float(self.depth_left.mean()) if self.skips else 1.0


def products(masks: LayerMasks) -> list[Product]:
    """Forward, input gradient and weight gradient, as the cpu backend goes about them.

    A multiply-add x[m, k] * w[n, k] is left iff all of inputs[m, k], weights[n, k] and
    outputs[m, n] are kept. Whether a product of such tiles skips the others is asked of the
    backend, which decides by tiles and keep rates (GemmPath in dropgemm/gemm.h).
    """
    b, i, o = masks.batch, masks.in_features, masks.out_features
    kept_in, kept_out, kept_weights = (
        np.ones(shape) if mask is None else np.asarray(mask.to_dense()).astype(np.float64)
        for mask, shape in (
            (masks.inputs, (b, i)),
            (masks.outputs, (b, o)),
            (masks.weights, (o, i)),
        )
    )
    x, w, y = ((b, i), masks.inputs), ((o, i), masks.weights), ((b, o), masks.outputs)
    return [
        Product(
            "forward",
            "Y = X Wᵀ",
            kept_out * (kept_in @ kept_weights.T) / i,
            _skips(x, w, y, trans_b=True),
        ),
        Product(
            "input gradient",
            "dX = dZ W",
            kept_in * (kept_out @ kept_weights) / o,
            _skips(y, w, x),
        ),
        Product(
            "weight gradient",
            "dW = dZᵀ X",
            kept_weights * (kept_out.T @ kept_in) / b,
            _skips(y, x, w, trans_a=True),
        ),
    ]


def _skips(a: Masked, b: Masked, d: Masked, trans_a: bool = False, trans_b: bool = False) -> bool:
    def mask(operand: Masked) -> tuple[Any, ...] | None:
        return None if operand[1] is None else operand[1].arguments()

    plan: str = _core.matmul_plan(
        np.empty(a[0], np.float32),
        np.empty(b[0], np.float32),
        np.empty(d[0], np.float32),
        mask(a),
        mask(b),
        mask(d),
        trans_a=trans_a,
        trans_b=trans_b,
        backend="cpu",
    )
    return plan.split()[0] != "select"  # GemmPath::kSelect alone skips nothing
