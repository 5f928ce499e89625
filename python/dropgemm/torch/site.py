"""Site: one place of a network where neurons are dropped, and its masks."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from dropgemm.arrays import to_integer, to_rate
from dropgemm.masks import SITE_END
from dropgemm.schedule import GyroSchedule, ScaleKind, inverted_scale
from dropgemm.tile_mask import TileMask, ceil_div
from dropgemm.torch import functional
from dropgemm.torch.clock import Clock
from dropgemm.torch.tracing import needs_operator

Method = Literal["block", "gyro", "bernoulli"]
METHODS: tuple[Method, ...] = ("block", "gyro", "bernoulli")


class Handover:
    """What one module left to the next, so that a module put in between or away is noticed."""

    def __init__(self, what: str, receiver: str) -> None:
        self.what = what
        self.receiver = receiver
        self.open = False

    def give(self) -> None:
        """RuntimeError where what was given in the last forward has not been taken."""
        if self.open:
            self.open = False
            raise RuntimeError(
                f"{self.what}: expected {self.receiver} to run after the last training forward of "
                "the module before it, but it did not. Only part of the model ran, or a module of "
                "it was replaced: call revert(model), change it, and convert it again"
            )
        self.open = True

    def take(self) -> bool:
        """Whether something was given."""
        given, self.open = self.open, False
        return given


class Site:
    """The masks of one dropout; the Linear layers next to it share it to skip what it drops.

    clock: the model's. id: names the site's bits, unlike any other's of the model. features: the
    width that is masked, or None to take it from the input. method: "block" (block-wise gyro:
    exact draws of tiles of tile_rows x tile_cols), "gyro" (element-wise) or "bernoulli"
    (conventional: a fresh key from PyTorch's generator at each forward). The gyro methods need
    total_steps. scale: "rate", "exact" or None, the default of the draw.

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
        total_steps: int | None = None,
        seed: int = 0,
        subnets: int = 1024,
        coscheduled: int = 8,
        tile_rows: int = 128,
        tile_cols: int = 32,
        scale: ScaleKind | None = None,
        folded: bool = False,
    ) -> None:
        if method not in METHODS:
            legal = ", ".join(repr(name) for name in METHODS)
            raise ValueError(f"method: expected one of {legal}, got {method!r}")
        if method != "bernoulli" and total_steps is None:
            raise ValueError(f"total_steps: expected the optimizer steps of the run for {method!r}")
        if method == "block" and features is None:
            raise ValueError("features: expected the width of a block-wise site, got None")
        if not isinstance(clock, Clock):
            raise TypeError(f"clock: expected a Clock, got {type(clock).__qualname__}")
        self.clock = clock
        self.id = to_integer("id", id, 0, SITE_END)
        self.features = None if features is None else to_integer("features", features, 0, 1 << 40)
        self.p = to_rate("p", p)
        self.method: Method = method
        self.folded = folded
        self.folds_relu = False
        # From a folded dropout to the Linear behind it, and from a Linear that rectified to the
        # folded ReLU behind it.
        self.to_consumer = Handover("mask and scale", "the Linear behind the dropout")
        self.to_relu = Handover("the ReLU", "the ReLU before the dropout")
        self.key: int | None = None  # the key of the last Bernoulli draw
        self.owner: torch.nn.Module | None = None  # the dropout module
        self._settings: dict[str, Any] = {
            "total_steps": 1 if total_steps is None else total_steps,
            "seed": seed,
            "subnets": subnets,
            "coscheduled": coscheduled,
        }
        self._tile_rows = to_integer("tile_rows", tile_rows, 1, 1 << 31)
        self.tile_cols = to_integer("tile_cols", tile_cols, 1, 1 << 31) if self.blocks else 1
        self._schedules: dict[tuple[int, int], GyroSchedule] = {}
        self._cache: tuple[tuple[int, int, int, int], TileMask] | None = None
        schedule = self.schedule(self.features or 0, 1)
        self.keep_rate = 1.0 - self.p if features is None else schedule.keep_rate
        self.scale = inverted_scale(scale, self.p, self.keep_rate, self.blocks)

    @property
    def blocks(self) -> bool:
        """True where masks have tiles, so that products can skip them."""
        return self.method == "block"

    def active(self, module: torch.nn.Module) -> bool:
        """True where this site drops now: p > 0, and its dropout module (or `module`) trains."""
        return self.p > 0.0 and (self.owner or module).training

    def schedule(self, features: int, rows_per_sample: int) -> GyroSchedule:
        """The schedule for samples of `rows_per_sample` rows; groups hold whole samples."""
        group = ceil_div(self._tile_rows, rows_per_sample) if self.blocks else 0
        found = self._schedules.get((features, group))
        if found is None:
            found = GyroSchedule(
                features, self.p, site=self.id, tile_cols=self.tile_cols,
                tile_rows=group or None, **self._settings,
            )  # fmt: skip
            self._schedules[features, group] = found
        return found

    def mask(self, batch: int, rows_per_sample: int = 1, features: int | None = None) -> TileMask:
        """The mask [batch * rows_per_sample, features] of the clock's step.

        The same for every call of a step, except that each "bernoulli" call is a new draw.
        """
        width = self.features if features is None else features
        if width is None:
            raise ValueError(f"features: expected a width, as site {self.id} was made without one")
        if self.method == "bernoulli":
            return self._draw(batch * rows_per_sample, width)
        schedule = self.schedule(width, rows_per_sample)
        if needs_operator(self.clock.step):
            return functional.gyro_mask(schedule, self.clock.step, batch, rows_per_sample)
        asked = (int(self.clock.step), batch, rows_per_sample, width)
        if self._cache is None or self._cache[0] != asked:
            if not self.clock.warned:
                self.clock.warned = True
                schedule.warn_if_unused(batch)
            mask = functional.gyro_mask(schedule, asked[0], batch, rows_per_sample)
            self._cache = (asked, mask)
            return mask
        return self._cache[1]

    def _draw(self, rows: int, width: int) -> TileMask:
        # From PyTorch's CPU generator, as nn.Dropout draws: seeds and checkpoints replay it.
        key = torch.randint(-(1 << 63), (1 << 63) - 1, (), dtype=torch.int64)
        if needs_operator(key):
            return functional.bernoulli_mask(rows, width, self.p, key, self.id, 0, 0, (1, 1))
        self.key = int(key) % (1 << 64)
        return functional.bernoulli_mask(rows, width, self.p, self.key, self.id, 0, 0, (1, 1))

    def apply(self, input: Tensor) -> Tensor:
        """`input` with its dropped elements 0 and the others scaled: a pass of its own."""
        if input.numel() == 0:
            return input
        batch, rows_per_sample = sample_rows(input) if self.blocks else (1, 1)
        if not self.blocks:
            batch = input.shape[0] if input.dim() > 1 else 1
        features = input.numel() // (batch * rows_per_sample)
        self.check_width("input", features if self.blocks else input.shape[-1:].numel())
        keep = self.mask(batch, rows_per_sample, features).to_dense().view(input.shape)
        return torch.where(keep, input * self.scale, input.new_zeros(()))

    def check_width(self, name: str, width: int) -> None:
        """Raises ValueError where the last dimension is not what the site was made for."""
        if self.features is not None and width != self.features:
            raise ValueError(
                f"{name}: expected last dimension {self.features} (the features of site "
                f"{self.id}), got {width}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the mask of the moment."""
        return {**self.__dict__, "_cache": None}

    def __repr__(self) -> str:
        """What extra_repr of the modules shows."""
        return f"site {self.id}: {self.method}, p={self.p}, features={self.features}"


def sample_rows(input: Tensor) -> tuple[int, int]:
    """(samples, rows of each) of an input [B, ..., F] or [F], batch first."""
    if input.dim() < 2:
        return 1, 1
    return input.shape[0], math.prod(input.shape[1:-1])
