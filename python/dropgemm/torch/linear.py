"""Linear: nn.Linear that skips what the dropouts before and after it drop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

from dropgemm import _core
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.autograd import Arguments
from dropgemm.torch.functional import NO_MASK, mask_arguments
from dropgemm.torch.site import Site, sample_rows
from dropgemm.torch.tracing import needs_operator, refuse_forward_ad

_NONE, _RELU = 0, 1  # the core's numbers for activations


class _SkippingLinear(torch.autograd.Function):
    """The three products of a layer, straight to the core: a sixth of an operator's call cost."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        in_mask: TileMask | None,
        out_mask: TileMask | None,
        scale: float,
        relu: bool,
        relu_below: bool,
    ) -> Tensor:
        rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        # Of its final shape: a view could not be modified in place, as nn.ReLU(inplace=True) does.
        y = x.new_empty((*x.shape[:-1], weight.shape[0]))
        y_matrix = (y.data_ptr(), operands.DTYPES[y.dtype], rows.shape[0], *[y.shape[-1]] * 2, 1)
        masks = _arguments(in_mask), _arguments(out_mask)
        _core.matmul(
            operands.matrix("input", rows), operands.matrix("weight", weight),
            y_matrix, masks[0], None, masks[1], False, True, scale, 1.0, None, None, None,
            operands.vector("bias", bias), _RELU if relu else _NONE,
        )  # fmt: skip
        # With relu the gradient that comes back is that of Z: the next layer's relu_below.
        ctx.save_for_backward(rows, weight)
        ctx.relu_below = relu_below
        ctx.scale, ctx.shape, ctx.in_mask, ctx.out_mask = scale, x.shape, in_mask, out_mask
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dy = grad if grad.dim() == 2 else grad.reshape(-1, grad.shape[-1])
        in_mask, out_mask = _arguments(ctx.in_mask), _arguments(ctx.out_mask)
        dy_matrix = operands.matrix("output gradient", dy)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            below = operands.matrix("input", x) if ctx.relu_below else None
            _core.matmul(
                dy_matrix, operands.matrix("weight", weight), operands.matrix("dx", dx), out_mask,
                None, in_mask, False, False, ctx.scale, grad_aux=below, grad_activation=_RELU,
            )  # fmt: skip
            dx = dx.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            dw = torch.empty_like(weight)
            if ctx.needs_input_grad[2]:
                db = weight.new_empty(weight.shape[0])
            _core.matmul(
                dy_matrix, operands.matrix("input", x), operands.matrix("dw", dw), out_mask,
                in_mask, None, True, False, ctx.scale, a_sum=operands.vector("db", db),
            )  # fmt: skip
        elif ctx.needs_input_grad[2]:
            db = mask_arguments(ctx.out_mask).select(dy).sum(0)
        return dx, dw, db, None, None, None, None, None


def _arguments(mask: TileMask | None) -> tuple[Any, ...] | None:
    return None if mask is None else mask.arguments()


class Linear(nn.Linear):
    """nn.Linear whose three products skip dropped inputs (in_site) and outputs (out_site).

    With input mask Mi and output mask Mo: y = (scale (x . Mi) W^T + b) . Mo. Where a site is
    folded its dropout's scale is applied here, and so is a folded ReLU (relu.py); otherwise the
    site's own module has scaled and masked x, and this layer only leaves out what is zero. A site
    without a dropout module drops while this layer trains. Without an active site this is
    nn.Linear to the last bit.

    Training takes float32 and float64 on the CPU: TypeError says which tensor is not, ValueError
    which dimension does not fit. Gyro Dropout (Lee et al., 2022) 4.3 prunes one side of the first
    two products; here both sides of all three are.
    """

    in_site: Site | None = None
    out_site: Site | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        in_site: Site | None = None,
        out_site: Site | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        for name, site, width in (
            ("in_site", in_site, in_features),
            ("out_site", out_site, out_features),
        ):
            if site is not None:
                if not isinstance(site, Site):
                    raise TypeError(f"{name}: expected a Site, got {type(site).__qualname__}")
                site.check_width(name, width)
        self.in_site = in_site
        self.out_site = out_site

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]; the first dimension counts samples."""
        if not isinstance(input, Tensor):
            raise TypeError(f"input: expected a torch.Tensor, got {type(input).__qualname__}")
        in_site, out_site = self.in_site, self.out_site
        if in_site is not None:
            in_site.to_consumer.take()
        if in_site is not None and not in_site.active(self):
            in_site = None
        # A draw of each forward, made after this layer ran, cannot be skipped here.
        if out_site is not None and (out_site.method == "bernoulli" or not out_site.active(self)):
            out_site = None
        relu = out_site is not None and out_site.folds_relu
        relu_below = in_site is not None and in_site.folds_relu
        if in_site is not None and not in_site.blocks:
            if not in_site.folded:
                in_site = None  # already masked, and no tile to skip
            elif input.dim() > 2:
                # Element-wise sites cover all dimensions of a sample, which is not a mask of rows.
                input, in_site = in_site.apply(input), None
        if out_site is not None and not out_site.blocks and input.dim() > 2:
            out_site = None
        if (in_site is None and out_site is None) or input.numel() == 0:
            y = F.linear(input, self.weight, self.bias)
            return self._hand_over(out_site, F.relu(y)) if relu else y
        weight, bias = self.weight, self.bias
        self._check(input, weight)

        batch, rows_per_sample = sample_rows(input)
        in_mask = in_site.mask(batch, rows_per_sample) if in_site is not None else None
        out_mask = out_site.mask(batch, rows_per_sample) if out_site is not None else None
        if out_site is not None and out_mask is not None and not can_skip(out_mask):
            out_mask = None
        scale = in_site.scale if in_site is not None and in_site.folded else 1.0
        if not needs_operator(input, weight, bias):
            result: Tensor = _SkippingLinear.apply(
                input, weight, bias, in_mask, out_mask, scale, relu, relu_below
            )
            return self._hand_over(out_site, result)
        refuse_forward_ad(input, weight, bias)
        rows = input.reshape(-1, self.in_features)
        if relu_below:
            rows = F.relu(rows)  # changes no value; for its derivative
        masks = mask_arguments(in_mask), NO_MASK, mask_arguments(out_mask)
        activation = _RELU if relu else _NONE
        y = Arguments(rows, weight, *masks, False, True, bias, None, activation, scale)()
        return self._hand_over(out_site, y.view(*input.shape[:-1], self.out_features))

    @staticmethod
    def _hand_over(out_site: Site | None, y: Tensor) -> Tensor:
        if out_site is not None and out_site.folds_relu:
            out_site.to_relu.give()
        return y

    def _check(self, input: Tensor, weight: Tensor) -> None:
        for name, tensor in (("input", input), ("weight", weight)):
            if not (tensor.is_cpu or tensor.is_meta):
                raise TypeError(f"{name}: expected a CPU tensor, got one on {tensor.device}")
            operands.dtype_code(name, tensor)
        if input.dtype != weight.dtype:
            raise TypeError(f"input: expected {weight.dtype} as weight, got {input.dtype}")
        if input.shape[-1] != self.in_features:
            raise ValueError(
                f"input: expected last dimension {self.in_features} (in_features), "
                f"got shape {tuple(input.shape)}"
            )

    def extra_repr(self) -> str:
        """nn.Linear's, and the ids of the sites."""
        sites = ((name, getattr(self, name)) for name in ("in_site", "out_site"))
        return super().extra_repr() + "".join(f", {n}={s.id}" for n, s in sites if s is not None)


def can_skip(mask: TileMask) -> bool:
    """True where a dropped output saves work: tiles of columns, or one row group for all rows.

    Element-wise masks of several groups save none, and the dropout drops those outputs anyway.
    """
    return mask.tile[1] > 1 or mask.tile[0] >= mask.shape[0]
