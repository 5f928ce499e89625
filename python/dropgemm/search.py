"""search_distribution: how often each period is to be drawn, so that a share p is dropped.

Approximate Random Dropout (Song et al., 2018), Algorithm 1. A pattern of period i drops
(i - 1) / i of the neurons; a distribution of periods drops the mean of these. Of all distributions
that drop p the search wants the one of the largest entropy, which draws the most different
patterns. The loss and its descent are include/dropgemm/search.h's.
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from dropgemm import _core
from dropgemm.arrays import to_integer, to_rate
from dropgemm.framework import Array
from dropgemm.pattern import Skew, drawn_mask, pattern_thresholds, sample_pattern
from dropgemm.tile_mask import TileMask

Values = npt.NDArray[np.float64]
SearchMethod = Literal["sgd", "exact", "narrow"]
SEARCH_METHODS: tuple[SearchMethod, ...] = get_args(SearchMethod)  # by the core's numbers


@dataclass(frozen=True, eq=False, repr=False)
class PatternDistribution:
    """The probability of each period, and patterns drawn from it.

    probabilities: of the periods 1, 2, ..., max_period; any that are >= 0 and sum to 1 within
    1e-6. p: the rate that was asked for; where none was, the rate that they have. rate: the share
    that is dropped on average, the sum of probability * (period - 1) / period. entropy: in nats;
    log(max_period) where all periods are equally likely. thresholds: uint64, what draws of 32 bits
    are compared with (dropgemm/pattern.h).

    Of the search that made it: iterations; converged; and at the start of its descent and after
    each step losses, rates, and weights (lambda2: losses of another weight are not comparable),
    all three empty where nothing descended.

    Arrays are read-only. Equal are those of equal probabilities and p.

    Raises ValueError for anything but a 1-D array of such probabilities, TypeError for anything
    but numbers.

    >>> distribution = dg.PatternDistribution([0.5, 0.25, 0.25])
    >>> distribution.sample(seed=0, site=0, step=2)  # (period, offset)
    (3, 1)
    >>> mask, scale = distribution.mask(seed=0, site=0, step=2, rows=2, cols=8)
    >>> mask.to_dense().astype(int)
    array([[0, 1, 0, 0, 1, 0, 0, 1],
           [0, 1, 0, 0, 1, 0, 0, 1]])
    >>> scale
    array(3., dtype=float32)
    """

    probabilities: Values
    p: float = None  # type: ignore[assignment]  # a float from __post_init__ on
    _: KW_ONLY
    iterations: int = 0
    losses: Values = field(default_factory=lambda: np.empty(0))
    rates: Values = field(default_factory=lambda: np.empty(0))
    weights: Values = field(default_factory=lambda: np.empty(0))
    converged: bool = True
    rate: float = field(init=False)
    entropy: float = field(init=False)
    thresholds: npt.NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        """Checks the probabilities, and copies arrays that somebody might write to."""
        thresholds = pattern_thresholds(self.probabilities)
        d = np.array(self.probabilities, np.float64)
        likely = d[d > 0]
        rate = float(d @ dropped_shares(len(d)))
        state = {
            "probabilities": d,
            "p": rate if self.p is None else to_rate("p", self.p),
            "rate": rate,
            "entropy": abs(float(likely @ np.log(likely))),
            "thresholds": thresholds,
        }
        for name in ("losses", "rates", "weights"):
            state[name] = np.array(getattr(self, name), np.float64)
        self.__setstate__(state)

    @property
    def max_period(self) -> int:
        """The largest period."""
        return len(self.probabilities)

    def sample(self, seed: int, site: int, step: int | Array, call: int = 0) -> tuple[int, int]:
        """The (period, offset) of a step, those of mask() with the same arguments."""
        return sample_pattern(self.thresholds, seed=seed, site=site, step=step, call=call)

    def mask(
        self,
        seed: int,
        site: int,
        step: int | Array,
        rows: int,
        cols: int,
        call: int = 0,
        like: Array | None = None,
        tile: tuple[int, int] | None = None,
        skew: Skew = 1,
    ) -> tuple[TileMask, Array]:
        """A mask of the pattern drawn for (seed, site, step, call), and its scale, the period.

        tile None: a row pattern over a matrix [rows, cols]. A tile: a tile pattern over a weight
        [rows, cols], shifted by skew from one row of tiles to the next. step: an int, or an
        integer array of no dimension, which is read where it lies. like: an array that names the
        framework; without it step does, or NumPy. The scale is a float32 array of no dimension.

        Raises ValueError where max_period is above cols, the tile rows or the tile columns, or a
        period shares a factor with skew; for a skew without a tile; for sizes, site, step or call
        out of range.
        """
        return drawn_mask(
            self.thresholds, rows, cols, tile, skew, seed=seed, site=site, step=step, call=call,
            keep_hint=1.0 - self.rate, like=like, stacklevel=2,
        )  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a pickled or copied distribution, whose arrays are to be read-only again."""
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        """Whether the same rate was asked for and the probabilities are the same."""
        if not isinstance(other, PatternDistribution):
            return NotImplemented
        return self.p == other.p and np.array_equal(self.probabilities, other.probabilities)

    def __hash__(self) -> int:
        """Of what equality compares."""
        return hash((self.p, tuple(self.probabilities.tolist())))

    def __repr__(self) -> str:
        """What it is about, in a line; not the probabilities, of which there may be many."""
        return (
            f"PatternDistribution(p={self.p:g}, max_period={self.max_period}, "
            f"rate={self.rate:.6f}, entropy={self.entropy:.4f}, iterations={self.iterations})"
        )


def search_distribution(
    p: float,
    max_period: int | None = None,
    method: SearchMethod = "sgd",
    *,
    features: int | None = None,
    anneal: bool = True,
    lambda1: float = 0.5,
    lambda2: float = 0.5,
    threshold: float = 1e-10,
    tolerance: float = 1e-4,
    max_iterations: int = 100_000,
) -> PatternDistribution:
    """The distribution of periods 1..max_period that drops at the rate p.

    p: in [0, 1). max_period: by default max(8, ceil(2 / (1 - p))), 1 for p = 0, and at most
    features, the number of neurons (or of tiles) that patterns are to be laid over.

    method "sgd": descent of lambda1 * (rate - p)^2 - lambda2 / max_period * entropy from the
    uniform distribution, until a step changes it by less than threshold; lambda2 is annealed until
    the rate is p. To first order the result is within `tolerance` of the exact distribution in the
    sum of absolute differences, and the rate within tolerance / 2 of p. anneal=False is the paper
    to the letter: weights that stay, which hold the rate off p (0.564 for 0.5 of 8 periods), and
    the plain gradient, which takes up to some ten thousand steps where max_period is 1024.

    method "exact": the distribution of the largest entropy that drops at p, by root finding.
    method "narrow" (beyond the paper): the two neighbouring periods whose mix drops at p, the
    larger one the default of max_period; for 0.5 period 2 alone. The least noise of all
    distributions at the rate, and the fewest patterns. Of the arguments after features neither
    looks at any.

    Warns (RuntimeWarning) where the descent does not come to rest; the result says converged=False.
    Raises ValueError for a max_period or features that cannot reach p (says the least that does),
    p outside [0, 1), weights outside [0.001, 1000], threshold <= 0, tolerance outside (0, 1],
    max_iterations < 1, an unknown method.

    >>> found = dg.search_distribution(0.5, max_period=4)
    >>> found.probabilities.round(2)
    array([0.22, 0.25, 0.26, 0.27])
    >>> exact = dg.search_distribution(0.5, max_period=4, method="exact")
    >>> bool(abs(found.probabilities - exact.probabilities).sum() < 1e-3)
    True
    """
    rate = to_rate("p", p)
    if method not in SEARCH_METHODS:
        raise ValueError(f"method: expected 'sgd', 'exact' or 'narrow', got {method!r}")
    if not isinstance(anneal, bool):
        raise TypeError(f"anneal: expected a bool, got {anneal!r}")
    room = 0 if features is None else to_integer("features", features, 1, 1 << 62)
    if max_period is None:
        periods = _core.default_max_period(rate, room)
    else:
        periods = to_integer("max_period", max_period, 1, 1 << 62)
        if room and periods > room:
            raise ValueError(f"max_period: expected at most features, {room}, got {periods}")
    probabilities, iterations, losses, rates, weights, shortfall = _core.search_distribution(
        rate,
        periods,
        SEARCH_METHODS.index(method),
        anneal,
        _to_float("lambda1", lambda1),
        _to_float("lambda2", lambda2),
        _to_float("threshold", threshold),
        _to_float("tolerance", tolerance),
        to_integer("max_iterations", max_iterations, -(1 << 62), 1 << 62),
    )
    if method == "narrow" and max_period is None:  # no further than the periods that are drawn
        probabilities = probabilities[: int(np.flatnonzero(probabilities)[-1]) + 1]
    if shortfall:
        warnings.warn(shortfall, RuntimeWarning, stacklevel=2)
    return PatternDistribution(
        np.array(probabilities),
        rate,
        iterations=iterations,
        losses=np.array(losses),
        rates=np.array(rates),
        weights=np.array(weights),
        converged=not shortfall,
    )


def dropped_shares(periods: int) -> Values:
    """The share (i - 1) / i that each period i = 1..periods drops (the paper's p_u)."""
    period = np.arange(1.0, periods + 1)
    return (period - 1) / period


def _to_float(name: str, value: object) -> float:
    if isinstance(value, (bool, str)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
