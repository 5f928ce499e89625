"""Linear: nn.Linear that skips what the dropouts before and after it drop."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.autocast import cast
from dropgemm.torch.calls import Layer, MaskArguments, factor
from dropgemm.torch.products import linear
from dropgemm.torch.site import Site


class Linear(nn.Linear):
    """nn.Linear whose three products skip dropped inputs (in_site) and outputs (out_site).

    With input mask Mi, output mask Mo and weight mask Mw (weight_site, method "tile"):
    y = (scale (x . Mi) (W . Mw)^T + b) . Mo. Where a site is folded its dropout's scale is applied
    here, and so is a folded ReLU (relu.py); otherwise the site's own module has scaled and masked
    x, and this layer only leaves out what is zero. A site without a dropout module drops while
    this layer trains. Without an active site this is nn.Linear to the last bit.

    prune_weight_grad=False multiplies the whole of the weight gradient, with the same result: what
    Gyro Dropout (Lee et al., 2022, 5.4) did. 4.3 prunes one side of the other two products; here
    both sides of all three are.

    Training takes float32, float64 and bfloat16, on CUDA devices float16 too, and follows
    torch.autocast and torch.set_float32_matmul_precision("medium"): TypeError says which tensor is
    of another dtype or on another device, ValueError which dimension does not fit.
    """

    in_site: Site | None = None
    out_site: Site | None = None
    weight_site: Site | None = None
    prune_weight_grad = True

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
        prune_weight_grad: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        for name, site, width in (
            ("in_site", in_site, in_features),
            ("out_site", out_site, out_features),
        ):
            if site is not None:
                check_site(name, site)
                if site.method == "tile":
                    raise ValueError(
                        f"{name}: expected a site of neurons, got one of method 'tile', which "
                        "drops weights: it is a TileDropLinear's weight_site"
                    )
                site.check_width(name, width)
        self.in_site = in_site
        self.out_site = out_site
        self.prune_weight_grad = prune_weight_grad

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]; the sites' batch_dim counts samples."""
        if not isinstance(input, Tensor):
            raise TypeError(f"input: expected a torch.Tensor, got {type(input).__qualname__}")
        for site in (self.in_site, self.weight_site):
            if site is not None:
                site.to_consumer.take()
        in_site, out_site, weight_site = (
            site if site is not None and site.active(self) else None
            for site in (self.in_site, self.out_site, self.weight_site)
        )
        # A draw of each forward, made after this layer ran, cannot be skipped here.
        if out_site is not None and out_site.method == "bernoulli":
            out_site = None
        relu = out_site is not None and out_site.folds_relu
        relu_below = in_site is not None and in_site.folds_relu
        if in_site is not None and not in_site.skips:
            if not in_site.folded:
                in_site = None  # already masked, and no tile to skip
            elif input.dim() > 2:
                # Element-wise sites cover all dimensions of a sample, which is not a mask of rows.
                input, in_site = in_site.apply(input), None
        if out_site is not None and not out_site.skips and input.dim() > 2:
            out_site = None
        if (in_site is out_site is weight_site is None) or input.numel() == 0:
            y = F.linear(input, self.weight, self.bias)
            return self._hand_over(out_site, F.relu(y)) if relu else y
        input, weight = cast(input, self.weight)
        (bias,) = cast(self.bias)
        self._check(input, weight)

        inputs = outputs = weights = None
        scale: float | Tensor = 1.0
        if in_site is not None:
            inputs, in_scale = in_site.draw_for(input)
            scale = in_scale if in_site.folded else 1.0
        if weight_site is not None:
            weights, weight_scale = weight_site.draw_for(input)
            scale = scale * weight_scale
        if out_site is not None:
            outputs = out_site.draw_for(input).mask
            outputs = outputs if can_skip(outputs) else None
            if outputs is not None and out_site.owner is not None:
                out_site.to_dropout.give()
        layer = Layer(
            MaskArguments.of(inputs), MaskArguments.of(weights), MaskArguments.of(outputs),
            *factor(scale), relu, relu_below, self.prune_weight_grad,
        )  # fmt: skip
        return self._hand_over(out_site, linear(input, weight, bias, layer))

    @staticmethod
    def _hand_over(out_site: Site | None, y: Tensor) -> Tensor:
        if out_site is not None and out_site.folds_relu:
            out_site.to_relu.give()
        return y

    def _check(self, input: Tensor, weight: Tensor) -> None:
        for name, tensor in (("input", input), ("weight", weight)):
            if not (tensor.is_cpu or tensor.is_cuda or tensor.is_meta):
                raise TypeError(
                    f"{name}: expected a CPU or CUDA tensor, got one on {tensor.device}"
                )
            operands.dtype_code(name, tensor)
        operands.check_devices("weight", weight, input=input)
        if input.dtype != weight.dtype:
            raise TypeError(f"input: expected {weight.dtype} as weight, got {input.dtype}")
        if input.shape[-1] != self.in_features:
            raise ValueError(
                f"input: expected last dimension {self.in_features} (in_features), "
                f"got shape {tuple(input.shape)}"
            )

    def extra_repr(self) -> str:
        """nn.Linear's, and the ids of the sites."""
        names = ("in_site", "out_site", "weight_site")
        sites = ((name, getattr(self, name)) for name in names)
        return super().extra_repr() + "".join(f", {n}={s.id}" for n, s in sites if s is not None)


class TileDropLinear(Linear):
    """Linear that drops tiles of its weight while it trains: y = scale x (W . Mw)^T + b.

    Tile patterns (TDP) of Song et al., "Approximate Random Dropout" (2018): each step keeps the
    tiles of one pattern, drawn by weight_site (method "tile"), and all three products skip the
    others. It takes the place of dropout on the layer's inputs: connections are dropped, not
    neurons, so there is no side to choose.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        weight_site: Site,
        in_site: Site | None = None,
        out_site: Site | None = None,
        prune_weight_grad: bool = True,
    ) -> None:
        super().__init__(
            in_features, out_features, bias, device, dtype, in_site=in_site, out_site=out_site,
            prune_weight_grad=prune_weight_grad,
        )  # fmt: skip
        check_site("weight_site", weight_site)
        expected = "tile", in_features, out_features
        got = weight_site.method, weight_site.features, weight_site.outputs
        if got != expected:
            raise ValueError(
                "weight_site: expected method {!r}, features {}, outputs {}, ".format(*expected)
                + "got {!r}, {}, {}".format(*got)
            )
        self.weight_site = weight_site


def check_site(name: str, site: object) -> None:
    """Raises TypeError for what is no Site."""
    if not isinstance(site, Site):
        raise TypeError(f"{name}: expected a Site, got {type(site).__qualname__}")


def can_skip(mask: TileMask) -> bool:
    """True where a dropped output saves work: tiles of columns, or one row group for all rows.

    Element-wise masks of several groups save none, and the dropout drops those outputs anyway.
    """
    return mask.tile[1] > 1 or mask.tile[0] >= mask.shape[0]
