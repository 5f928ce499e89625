"""Row and tile patterns (Song et al., "Approximate Random Dropout", 2018) as masks.

A pattern keeps one of `period` columns: of neurons (RDP), or of the tiles of a weight (TDP). Drawn
afresh for each step, every neuron is dropped as often as under conventional dropout of the same
rate. That equivalence is of the marginals only: which neurons are dropped together is not random.
The formulas are include/dropgemm/pattern.h's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dropgemm import _core
from dropgemm.arrays import check_extent, framework_of, to_integer, to_pair, to_rate
from dropgemm.framework import Array, Framework, ceil_div
from dropgemm.masks import CALL_END, INT_END, SEED_END, SITE_END, STEP_END, to_step
from dropgemm.numpy import NUMPY
from dropgemm.tile_mask import TileMask

Skew = int | Literal["linear"]


class PatternLayout(NamedTuple):
    """A mask before its pattern is known, as dropgemm._core takes it."""

    rows: int
    cols: int
    tile_rows: int
    tile_cols: int
    tiles: bool  # a tile pattern, or a row pattern
    skew: int = 1
    linear: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Of the masked matrix."""
        return self.rows, self.cols

    @property
    def tile(self) -> tuple[int, int]:
        """Of the mask: one row of tiles, one column wide, where it is a row pattern's."""
        return self.tile_rows, self.tile_cols

    def collapse(self, periods: Iterable[int]) -> str:
        """Where a linear skew lines tiles up in columns at one of the periods, says so."""
        columns = ceil_div(self.cols, self.tile_cols)
        aligned = [period for period in periods if period > 1 and columns % period == 0]
        if not self.linear or not aligned:
            return ""
        return (
            f"skew='linear': {columns} tile columns are a multiple of period "
            f"{', '.join(map(str, aligned))}: every tile row then keeps the same columns, and "
            "the pattern drops inputs, not tiles; skew=1 does not"
        )

    def warn_of_collapse(
        self, framework: Framework, periods: Iterable[int], stacklevel: int
    ) -> None:
        """Warns of a collapse, unless this is being compiled."""
        message = "" if framework.is_traced() else self.collapse(periods)
        if message:
            warnings.warn(message, UserWarning, stacklevel=stacklevel + 1)


def row_layout(rows: int, cols: int) -> PatternLayout:
    """A mask [rows, cols] whose rows share one row of bits."""
    return PatternLayout(rows, cols, max(rows, 1), 1, False)


def tile_layout(rows: int, cols: int, tile: tuple[int, int], skew: Skew) -> PatternLayout:
    """A mask over a weight [rows, cols] in tiles."""
    return PatternLayout(rows, cols, *tile, True, *_split(skew))


@dataclass(frozen=True)
class RowPattern:
    """Keeps column c of a matrix iff (c - offset) mod period == 0 (the paper's RDP).

    Raises ValueError for period < 1 or offset outside [0, period).

    >>> pattern = dg.RowPattern(period=3, offset=1)
    >>> pattern.mask(2, 8).to_dense().astype(int)
    array([[0, 1, 0, 0, 1, 0, 0, 1],
           [0, 1, 0, 0, 1, 0, 0, 1]])
    >>> pattern.scale
    3.0
    """

    period: int
    offset: int = 0

    def __post_init__(self) -> None:
        """Checks the fields and makes them ints."""
        _set_integers(self, period=INT_END, offset=INT_END)
        _core.check_pattern(False, 1, False, self.period, self.offset)

    @property
    def scale(self) -> float:
        """What kept values are multiplied by in inverted dropout: 1 / the share that is kept."""
        return float(self.period)

    def mask(self, rows: int, cols: int, like: Array | None = None) -> TileMask:
        """The mask of a matrix [rows, cols], one pattern for all rows.

        like: an array that names the framework of the bits; without it NumPy.

        Raises ValueError where the period is above cols.
        """
        layout = row_layout(*_to_shape(rows, cols))
        return _given_mask(_framework_like(like), layout, self.period, self.offset, like)


@dataclass(frozen=True)
class TilePattern:
    """Keeps tile (r, c) of a weight iff (c + skew * r - offset) mod period == 0 (the paper's TDP).

    skew: an integer that shares no factor with the period, so that no tile column is dropped in
    every tile row; or "linear", the number of tile columns, which is the paper's row-major
    numbering. Where the period divides that number every tile row keeps the same columns, and the
    pattern does no more than drop inputs: mask() warns.

    Raises ValueError for period < 1, offset outside [0, period), tiles below 1, any other skew.

    >>> pattern = dg.TilePattern(period=2, tile=(1, 2))
    >>> pattern.mask(out_features=3, in_features=8).to_dense().astype(int)
    array([[1, 1, 0, 0, 1, 1, 0, 0],
           [0, 0, 1, 1, 0, 0, 1, 1],
           [1, 1, 0, 0, 1, 1, 0, 0]])
    """

    period: int
    offset: int = 0
    tile: tuple[int, int] = (32, 32)
    skew: Skew = 1

    def __post_init__(self) -> None:
        """Checks the fields and makes them ints."""
        _set_integers(self, period=INT_END, offset=INT_END)
        object.__setattr__(self, "tile", to_pair("tile", self.tile, 1))
        object.__setattr__(self, "skew", to_skew(self.skew))
        skew, linear = _split(self.skew)
        _core.check_pattern(True, skew, linear, self.period, self.offset)

    @property
    def scale(self) -> float:
        """What kept products are multiplied by in inverted dropout: 1 / the share that is kept."""
        return float(self.period)

    def mask(self, out_features: int, in_features: int, like: Array | None = None) -> TileMask:
        """The mask of a weight [out_features, in_features].

        like: an array that names the framework of the bits; without it NumPy.

        Raises ValueError where the period is above the tile rows or the tile columns.
        """
        shape = _to_shape(out_features, in_features, ("out_features", "in_features"))
        layout = tile_layout(*shape, self.tile, self.skew)
        framework = _framework_like(like)
        mask = _given_mask(framework, layout, self.period, self.offset, like)
        layout.warn_of_collapse(framework, (self.period,), stacklevel=2)
        return mask


def drawn_mask(
    thresholds: npt.NDArray[np.uint64],
    rows: int,
    cols: int,
    tile: tuple[int, int] | None,
    skew: Skew = 1,
    *,
    seed: int,
    site: int,
    step: int | Array,
    call: int = 0,
    keep_hint: float = 1.0,
    like: Array | None = None,
    stacklevel: int = 1,
) -> tuple[TileMask, Array]:
    """A mask of a pattern drawn for (seed, site, step, call), and its exact scale, the period.

    thresholds: pattern_thresholds() of the periods' distribution. tile: None for a row pattern
    over a matrix [rows, cols], or the tile of a tile pattern over a weight [rows, cols]. step: an
    int, or an integer array of no dimension, which is read where it lies and clamped to
    [0, 2^32). keep_hint: the expected keep rate. like: an array that names the framework of mask
    and scale; without it step does, or NumPy. stacklevel: whose line a warning is to name, 1 the
    caller's. The scale is a float32 array of no dimension.

    Raises ValueError where the largest period is above cols, the tile rows or the tile columns,
    or shares a factor with skew; for sizes, site, step or call out of range.
    """
    shape = _to_shape(rows, cols)
    if tile is None:
        if to_skew(skew) != 1:
            raise ValueError(f"skew: expected a tile beside it, as rows have no skew, got {skew!r}")
        layout = row_layout(*shape)
    else:
        layout = tile_layout(*shape, to_pair("tile", tile, 1), to_skew(skew))
    seed = to_integer("seed", seed, 0, SEED_END)
    site = to_integer("site", site, 0, SITE_END)
    call = to_integer("call", call, 0, CALL_END)
    keep_hint = to_rate("keep_hint", keep_hint)
    framework, at = to_step(step, like)
    drawn = drawn_mask_in(framework, thresholds, layout, seed, site, at, call, keep_hint)
    layout.warn_of_collapse(framework, range(len(thresholds) + 1), stacklevel=stacklevel + 1)
    return drawn


def drawn_mask_in(
    framework: Framework,
    thresholds: Array,
    layout: PatternLayout,
    seed: int,
    site: int,
    step: Any,
    call: Any,
    keep_hint: float,
) -> tuple[TileMask, Array]:
    """drawn_mask() in a framework, which may have thresholds of its own; nothing is checked here.

    What the core refuses it refuses; nobody warns of a linear skew.
    """
    bits, scale = framework.pattern_bits(layout, 1, 0, thresholds, seed, site, step, call)
    return TileMask.trusted(bits, framework, layout.shape, layout.tile, keep_hint), scale


def pattern_thresholds(probabilities: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """floor(2^32 * P(period <= i + 1)) for each i, of the probabilities of periods 1, 2, ...

    Raises ValueError for probabilities that are negative, not finite, none, or do not sum to 1
    within 1e-6; TypeError for what are no numbers.
    """
    try:
        values = np.asarray(probabilities, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"probabilities: expected an array of numbers, got {probabilities!r}"
        ) from None
    if values.ndim != 1:
        raise ValueError(f"probabilities: expected a 1-D array, got {values.ndim}-D")
    if not values.size:
        raise ValueError("probabilities: expected at least that of period 1, got none")
    return np.array(_core.pattern_thresholds(values.tolist()), np.uint64)


def sample_pattern(
    thresholds: npt.NDArray[np.uint64],
    *,
    seed: int,
    site: int,
    step: int | Array,
    call: int = 0,
) -> tuple[int, int]:
    """The (period, offset) that drawn_mask draws from the same arguments."""
    seed = to_integer("seed", seed, 0, SEED_END)
    site = to_integer("site", site, 0, SITE_END)
    call = to_integer("call", call, 0, CALL_END)
    framework, at = to_step(step, None)
    if not isinstance(at, int):
        at = min(max(framework.read_step(at), 0), STEP_END - 1)
    period, offset = _core.sample_pattern(thresholds, seed, site, at, call)
    return period, offset


def to_skew(skew: object) -> Skew:
    """A skew as an int or "linear"."""
    if isinstance(skew, str):
        if skew != "linear":
            raise ValueError(f"skew: expected an integer or 'linear', got {skew!r}")
        return "linear"
    return to_integer("skew", skew, -INT_END, INT_END)


def _split(skew: Skew) -> tuple[int, bool]:
    """A skew as the core takes it: (an integer, whether it is linear instead)."""
    return (1, True) if skew == "linear" else (int(skew), False)


def _set_integers(pattern: object, **ends: int) -> None:
    """Fields as ints; the core says more of what is legal than their range."""
    for name, end in ends.items():
        value = to_integer(name, getattr(pattern, name), -end, end)
        object.__setattr__(pattern, name, value)


def _to_shape(
    rows: object, cols: object, names: tuple[str, str] = ("rows", "cols")
) -> tuple[int, int]:
    shape = to_integer(names[0], rows, 0, 1 << 62), to_integer(names[1], cols, 0, 1 << 62)
    check_extent(*shape)
    return shape


def _framework_like(like: Array | None) -> Framework:
    return NUMPY if like is None else framework_of("like", like)


def _given_mask(
    framework: Framework, layout: PatternLayout, period: int, offset: int, like: Array | None
) -> TileMask:
    at = 0 if like is None else framework.at(0, like)
    bits, _ = framework.pattern_bits(layout, period, offset, step=at)
    return TileMask.trusted(bits, framework, layout.shape, layout.tile, 1.0 / period)
