"""Members: the converted layers of an ensemble, with the masks of a subnet or of all at once.

Under torch.vmap a layer sees what vmap sees: values that are the same for all subnets, or one more
dimension. The subnets of values then become row groups of one product, or products in turn where
masks are of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dropgemm.arrays import to_integer
from dropgemm.schedule import GyroSchedule
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.autocast import cast
from dropgemm.torch.autograd import matmul
from dropgemm.torch.calls import Product
from dropgemm.torch.clock import Clock
from dropgemm.torch.draws import Drawn, GyroDraws, PatternDraws
from dropgemm.torch.dropout import _SiteDropout
from dropgemm.torch.functional import TORCH, repeat_rows
from dropgemm.torch.linear import Linear
from dropgemm.torch.lstm import LSTM
from dropgemm.torch.site import Site

Subnets = int | Sequence[int]

# Rows of a group that products can skip for it alone; others are taken in turn.
_GRANULE = 8


class Members:
    """Which of the subnets run now."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.now: int | None = None  # None: all, each a group of samples behind the other's
        self.number: Tensor | None = None  # what vmap maps over

    @contextmanager
    def only(self, number: int) -> Iterator[None]:
        """One of them."""
        before, self.now = self.now, number
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def mapped(self, number: Tensor) -> Iterator[None]:
        """All of them, within torch.vmap over their numbers."""
        self.number = number
        try:
            yield
        finally:
            self.number = None


class GyroMembers:
    """The pre-selected subnets of a site, in place of the schedule that trains them."""

    def __init__(self, site: Site, members: Members, subnets: Subnets) -> None:
        self._members = members
        self._site = site
        self._numbers = _numbers(subnets, members.count, site.settings.subnets, "subnets")
        self._bits: dict[tuple[int, torch.device], Tensor] = {}
        assert isinstance(site.draws, GyroDraws)
        self.keep_rate, self.scale = site.draws.keep_rate, site.draws.scale

    def __call__(
        self, clock: Clock, batch: int, sample_rows: int, width: int, repeats: int = 1
    ) -> Drawn:
        """That of the subnet that runs; of all, each for its share of the batch."""
        rows, now = batch * sample_rows, self._members.now
        bits, height = self._of_width(width, clock.step.device), rows // self._members.count
        if now is not None:
            bits, height = bits[now : now + 1], rows
        columns = self._site.settings.tile_cols if self._site.method == "block" else 1
        tile = max(height, 1), columns
        mask = TileMask.trusted(bits, TORCH, (rows, width), tile, self.keep_rate)
        return Drawn(repeat_rows(mask, repeats) if repeats != 1 else mask, self.scale)

    def _of_width(self, width: int, device: torch.device) -> Tensor:
        """A row of bits for each subnet: they depend on seed, site and number alone."""
        found = self._bits.get((width, device))
        if found is None:
            settings, block = self._site.settings, self._site.method == "block"
            count = max(self._numbers) + 1
            # All in one set, so that row j of its first batch has subnet j.
            schedule = GyroSchedule(
                width, self._site.p, total_steps=1, seed=settings.seed, site=self._site.id,
                subnets=count, coscheduled=count, tile_rows=1,
                tile_cols=settings.tile_cols if block else 1,
                draw=settings.draw or ("exact" if block else "bernoulli"),
            )  # fmt: skip
            like = torch.empty(0, device="cpu")
            bits = schedule.mask(0, count, like=like).bits.view(torch.int32)
            found = bits[list(self._numbers)].to(device).view(torch.uint32)
            self._bits[width, device] = found
        return found


class PatternMembers:
    """The patterns of some steps; never of several at once."""

    def __init__(self, site: Site, members: Members, steps: Subnets) -> None:
        assert isinstance(site.draws, PatternDraws)
        self._members = members
        self._draws = site.draws
        total = site.settings.total_steps or 1 << 31
        self._numbers = _numbers(steps, members.count, total, "total_steps")
        self._rows = site.outputs  # of a weight
        self.keep_rate, self.scale = site.draws.keep_rate, site.draws.scale

    def __call__(
        self, clock: Clock, batch: int, sample_rows: int, width: int, repeats: int = 1
    ) -> Drawn:
        """That of the step that stands for the subnet that runs."""
        assert self._members.now is not None
        rows = self._rows or repeats * batch * sample_rows
        step = TORCH.at(self._numbers[self._members.now], clock.step)
        return self._draws.draw(step, 0, rows, width)


def _numbers(subnets: Subnets, count: int, most: int, what: str) -> tuple[int, ...]:
    """Checked, or spread evenly over all that there are."""
    if isinstance(subnets, int):
        if count > most:
            raise ValueError(f"subnets: expected at most {most} ({what}), got {count}")
        return tuple(number * most // count for number in range(count))
    return tuple(to_integer(f"subnets[{at}]", each, 0, most) for at, each in enumerate(subnets))


# ---- layers ----------------------------------------------------------------------------------


def sites_of(module: nn.Module) -> list[Site]:
    """Where a converted module drops, at a rate above 0."""
    every: tuple[Site | None, ...] = ()
    if isinstance(module, Linear):
        every = module.in_site, module.weight_site, module.out_site
    elif isinstance(module, LSTM):
        every = *module.in_sites, *module.recurrent_sites, module.out_site
    elif isinstance(module, _SiteDropout):
        every = (module.site,)
    return [site for site in every if site is not None and site.p > 0.0]


def attend(model: nn.Module, members: Members, subnets: Subnets) -> None:
    """Puts a model into eval mode, but for its converted layers, which get members' masks.

    ValueError for numbers of subnets that do not exist.
    """
    model.eval()
    attended: dict[int, Site] = {}
    for module in model.modules():
        sites = sites_of(module)
        attended |= {id(site): site for site in sites}
        if not sites:
            continue
        module.training = True
        layer: Any = module
        if isinstance(module, LSTM):
            module.dropout = 0.0  # of layers without a site
            layer.forward = _RecurrentLayer(module, members, sites)
        elif isinstance(module, Linear) or not sites[0].folded:
            layer.forward = _Layer(module, members, sites)
    for site in attended.values():
        if site.method in ("block", "gyro"):
            site.draws = GyroMembers(site, members, subnets)  # type: ignore[assignment]
        elif site.method in ("row", "tile"):
            site.draws = PatternMembers(site, members, subnets)  # type: ignore[assignment]


class _Together(torch.autograd.Function):
    """A layer under torch.vmap, whose rule has the values of all subnets in hand."""

    @staticmethod
    def forward(layer: _Layer, number: Tensor, *values: Tensor) -> Any:
        return layer.plain(*values)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, layer: _Layer, number: Tensor, *values: Tensor) -> Any:
        return layer.together(values, in_dims[2:])


Dims = Sequence[int | None]  # of the subnets, in some values; None: they have the same


class _Layer:
    """The forward of a Linear or a dropout, for the subnet that runs or, in vmap, for all."""

    def __init__(self, module: Any, members: Members, sites: list[Site]) -> None:
        self.plain: Callable[..., Any] = module.forward  # the module's own
        self._module = module
        self._members = members
        self._sites = sites
        self._methods = {site.method for site in sites}

    def __call__(self, input: Tensor) -> Any:
        number = self._members.number
        return self.plain(input) if number is None else _Together.apply(self, number, input)

    def together(self, values: tuple[Tensor, ...], dims: Dims) -> tuple[Any, Any]:
        """The results of all subnets, and where their dimension of the subnets is."""
        (x,), (dim,) = values, dims
        if dim is None and not self._drops_inputs():
            return self._dense(x), None
        one = x if dim is None else x.select(dim, 0)
        at = self._sites[0].batch_dim(one)
        whole = one.dim() > 1 and math.prod(one.shape[at:-1]) % _GRANULE == 0
        # Single neurons of one subnet are compacted; those of groups would only be masked. What is
        # the same for all need not be copied.
        if dim is not None and whole and self._methods <= {"block", "bernoulli"}:
            y = self.plain(x.movedim(dim, at).flatten(at, at + 1))
            return y.unflatten(at, (self._members.count, -1)), at
        each = [x] * self._members.count if dim is None else x.unbind(dim)
        return _stacked(self._in_turn((value,) for value in each), len(each)), 0

    def _dense(self, x: Tensor) -> Tensor:
        """What a Linear makes of what is the same for all, and nothing is dropped of."""
        x, weight = cast(x, self._module.weight)
        (bias,) = cast(self._module.bias)
        if x.dim() < 2 or not x.is_cpu or x.dtype not in operands.DTYPES or x.dtype != weight.dtype:
            return nn.functional.linear(x, weight, bias)
        y = matmul(x.flatten(0, -2), weight, bias, None, Product(trans_b=True))
        return y.view(*x.shape[:-1], y.shape[1])

    def _drops_inputs(self) -> bool:
        """False for a Linear that drops outputs alone, which the dropout behind it drops anyway."""
        out_site = getattr(self._module, "out_site", None)
        return any(site is not out_site or site.owner is None for site in self._sites)

    def _in_turn(self, values: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """The results of one subnet after the other."""
        handovers = self._sites[0].clock.handovers
        before = [handover.open for handover in handovers]
        for number, each in enumerate(values):
            for handover, was in zip(handovers, before, strict=True):
                handover.open = was  # each is the first to give and to take
            with self._members.only(number):
                yield self.plain(*each)


class _RecurrentLayer(_Layer):
    """The forward of an LSTM: likewise, of an input and perhaps two states."""

    def __call__(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> Any:
        number = self._members.number
        if number is None:
            return self.plain(input, hx)
        if not isinstance(input, Tensor):
            raise TypeError(
                f"input: expected a tensor, got {type(input).__name__}, which torch.vmap does not "
                "take: ensemble(..., batched=False) does"
            )
        y, h, c = _Together.apply(self, number, input, *(hx or ()))
        return y, (h, c)

    def together(self, values: tuple[Tensor, ...], dims: Dims) -> tuple[Any, Any]:
        """Results, hidden and cell states of all subnets."""
        count = self._members.count
        each = [
            value.unsqueeze(0).expand(count, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip(values, dims, strict=True)
        ]
        if each[0].dim() == 4 and self._methods <= {"block", "gyro", "bernoulli"}:
            # Where samples are counted: in the input and the output, and in the states.
            ats = [0 if self._module.batch_first else 1, 1, 1]
            x, *hx = (
                v.movedim(0, at).flatten(at, at + 1) for v, at in zip(each, ats, strict=False)
            )
            y, (h, c) = self.plain(x, tuple(hx) or None)
            results = zip((y, h, c), ats, strict=True)
            return tuple(r.unflatten(at, (count, -1)) for r, at in results), tuple(ats)
        inputs = [(x, tuple(hx) or None) for x, *hx in zip(*each, strict=True)]
        of_subnets = zip(*((y, h, c) for y, (h, c) in self._in_turn(inputs)), strict=True)
        return tuple(torch.stack(results) for results in of_subnets), (0, 0, 0)


def _stacked(results: Iterable[Tensor], count: int) -> Tensor:
    """torch.stack of what comes one after the other."""
    stack: Tensor | None = None
    for number, result in enumerate(results):
        if stack is None:
            stack = result.new_empty(count, *result.shape)
        stack[number] = result
    assert stack is not None
    return stack
