"""Site: one place of a network where neurons are dropped, and its masks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dropgemm.arrays import to_integer, to_rate
from dropgemm.masks import SITE_END
from dropgemm.methods import METHODS, Method
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.clock import Clock
from dropgemm.torch.draws import Drawn, GyroDraws, PatternDraws, Settings, make_draws
from dropgemm.torch.handover import Handover


class Site:
    """The masks of one dropout; the Linear layers next to it share it to skip what it drops.

    clock: the model's. id: names the site's bits, unlike any other's of the model. features: the
    width that is masked, or None to take it from the input. method:

    - "block": block-wise gyro, tiles of tile_rows x tile_cols by subnet
    - "gyro": single neurons by subnet, one subnet a row group
    - "bernoulli": conventional; a fresh key from PyTorch's generator at each forward
    - "row": every period-th neuron, one pattern for the whole batch, sampled each step
    - "tile": tiles of the weight [outputs, features] of the layer behind it, sampled each step

    settings: the fields of Settings, by name; the gyro methods need total_steps.

    folded: the Linear whose in_site this is applies mask and scale in its product, and the
    dropout module passes its input through. folds_relu: so does the ReLU before the dropout; the
    Linear whose out_site this is rectifies, the other multiplies by the derivative.
    """

    def __init__(
        self,
        clock: Clock,
        id: int,
        features: int | None,
        p: float,
        method: Method,
        *,
        outputs: int | None = None,
        folded: bool = False,
        **settings: Any,
    ) -> None:
        if method not in METHODS:
            legal = ", ".join(repr(name) for name in METHODS)
            raise ValueError(f"method: expected one of {legal}, got {method!r}")
        if not isinstance(clock, Clock):
            raise TypeError(f"clock: expected a Clock, got {type(clock).__qualname__}")
        self.clock = clock
        self.id = to_integer("id", id, 0, SITE_END)
        self.features = None if features is None else to_integer("features", features, 0, 1 << 40)
        self.outputs = None if outputs is None else to_integer("outputs", outputs, 0, 1 << 40)
        self.p = to_rate("p", p)
        self.method: Method = method
        self.settings = Settings(**settings)
        self.draws = make_draws(method, self.id, self.features, self.outputs, self.p, self.settings)
        if isinstance(self.draws, PatternDraws):
            self.draws.hold(clock)
        if isinstance(self.draws, GyroDraws):
            assert self.settings.total_steps is not None
            clock.total_steps = min(
                self.settings.total_steps, clock.total_steps or self.settings.total_steps
            )
        self.folded = folded
        self.folds_relu = False
        # From a Linear that skipped outputs to the dropout behind it, from a folded dropout to the
        # Linear behind it, and from a Linear that rectified to the folded ReLU behind it.
        self.to_dropout = Handover(
            "dropped outputs", "the dropout behind the Linear", clock.handovers
        )
        self.to_consumer = Handover(
            "mask and scale", "the Linear behind the dropout", clock.handovers
        )
        self.to_relu = Handover("the ReLU", "the ReLU before the dropout", clock.handovers)
        self.owner: torch.nn.Module | None = None  # the dropout module

    @property
    def skips(self) -> bool:
        """True where masks are of whole tiles or whole columns, so that products can skip them."""
        return self.method in ("block", "row")

    @property
    def skips_outputs(self) -> bool:
        """True where the Linear before the dropout leaves out what is dropped in training.

        Single neurons by subnet are left out where the whole batch has one subnet.
        """
        return self.skips or (self.method == "gyro" and self.settings.coscheduled == 1)

    @property
    def keep_rate(self) -> float:
        """The share of neurons (of weights, for "tile") that is kept in the mean."""
        return self.draws.keep_rate

    @property
    def scale(self) -> float | Tensor:
        """What kept values are multiplied by; a pattern's is that of the clock's step and call."""
        fixed = self.draws.scale
        return self.draw(1).scale if fixed is None else fixed

    def active(self, module: torch.nn.Module) -> bool:
        """True where this site drops now: p > 0, and its dropout module (or `module`) trains."""
        return self.p > 0.0 and (self.owner or module).training

    def draw(
        self, batch: int, rows_per_sample: int = 1, features: int | None = None, repeats: int = 1
    ) -> Drawn:
        """The mask [batch * rows_per_sample, features] of the clock's step, and its scale.

        repeats: so many times the mask, under one another; for the groups of "block" a sample has
        rows_per_sample * repeats rows.

        "tile": the mask [outputs, features] of the weight. Every call of a step gets the same
        mask, except that each "bernoulli" call is a new draw, and that patterns differ with
        clock.call.
        """
        width = self.features if features is None else features
        if width is None:
            raise ValueError(f"features: expected a width, as site {self.id} was made without one")
        if repeats == 1:
            return self.draws(self.clock, batch, rows_per_sample, width)
        return self.draws(self.clock, batch, rows_per_sample, width, repeats)

    def draw_for(self, input: Tensor) -> Drawn:
        """The mask over the rows of an input [..., features], or [features]."""
        self._check_device(input)
        at, shape = self.batch_dim(input), input.shape
        if len(shape) <= 2:
            return self.draw(shape[0] if len(shape) == 2 else 1)
        return self.draw(shape[at], math.prod(shape[at + 1 : -1]), None, math.prod(shape[:at]))

    def batch_dim(self, input: Tensor) -> int:
        """The dimension of an input that counts samples; of a matrix that is the first.

        ValueError for an input of too few dimensions.
        """
        at, dimensions = self.settings.batch_dim, input.dim()
        if dimensions > at + 1:
            return at
        if at > 1 or dimensions > 2:
            raise ValueError(
                f"input: expected {at + 2} dimensions at least, as batch_dim={at} counts samples, "
                f"got shape {tuple(input.shape)}"
            )
        return 0

    def mask(self, batch: int, rows_per_sample: int = 1, features: int | None = None) -> TileMask:
        """The mask of draw()."""
        return self.draw(batch, rows_per_sample, features).mask

    def apply(self, input: Tensor) -> Tensor:
        """`input` with its dropped elements 0 and the others scaled: a pass of its own."""
        if input.numel() == 0:
            return input
        self._check_device(input)
        if self.skips:
            self.check_width("input", input.shape[-1])
            # A row pattern is the same for all rows: one of them will do.
            mask, scale = self.draw(1) if self.method == "row" else self.draw_for(input)
            shape = input.shape[-1:] if self.method == "row" else input.shape
            keep = mask.to_dense().view(shape)
        else:
            self.check_width("input", input.shape[-1:].numel())
            at = self.batch_dim(input)
            samples = input.movedim(at, 0) if input.dim() > 1 else input[None]
            batch = samples.shape[0]
            mask, scale = self.draw(batch, 1, input.numel() // batch)
            keep = mask.to_dense().view(samples.shape).movedim(0, at).view(input.shape)
        return torch.where(keep, input * scale, input.new_zeros(()))

    def check_width(self, name: str, width: int) -> None:
        """Raises ValueError where the last dimension is not what the site was made for."""
        if self.features is not None and width != self.features:
            raise ValueError(
                f"{name}: expected last dimension {self.features} (the features of site "
                f"{self.id}), got {width}"
            )

    def _check_device(self, input: Tensor) -> None:
        step = self.clock.step
        if not operands.same_device(step, input):
            raise TypeError(
                f"input: expected a tensor on {step.device} as the clock of site {self.id}, "
                f"got one on {input.device}; .to() of the whole model takes the clock along"
            )

    def __repr__(self) -> str:
        """What extra_repr of the modules shows."""
        return f"site {self.id}: {self.method}, p={self.p}, features={self.features}"
