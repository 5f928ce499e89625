"""What drawn patterns drop how often, and what together.

Counts over 20,000 steps lie within exact binomial bounds that all counts of a case together break
with chance 1e-3 at most (Bonferroni); seeds are fixed. Patterns drop every neuron at the rate that
conventional dropout would, and no more than that: pairs of neurons are far from independent.
"""

import functools
import math

import numpy as np
import pytest

import dropgemm as dg
from dense import pattern_tiles

STEPS = 20_000
FALSE_ALARM = 1e-3
NEURONS = 24
TILES = (8, 9)  # tile rows and columns of the weight
PERIODS = np.arange(1, 9)


@functools.cache
def searched(p, method="sgd"):
    """What dg.search_distribution finds for the rate p, over PERIODS."""
    return dg.search_distribution(p, len(PERIODS), method)


@functools.cache
def deviation_bound(q, chance):
    """The smallest b with P(|X - STEPS q| > b) <= chance, X ~ Binomial(STEPS, q): exact tails."""
    k = np.arange(STEPS + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    log_pmf = log_factorial[-1] - log_factorial - log_factorial[::-1]
    pmf = np.exp(log_pmf + k * math.log(q) + (STEPS - k) * math.log1p(-q))
    off = abs(k - STEPS * q)
    order = np.argsort(-off)
    tail = np.cumsum(pmf[order])
    return off[order[np.searchsorted(tail, chance, side="right")]]


def outside(counts, rates):
    """How many counts deviate from STEPS * rate by more than their common bound allows."""
    chance = FALSE_ALARM / len(counts)
    bounds = [deviation_bound(round(float(q), 12), chance) for q in rates]
    return int((abs(np.asarray(counts) - STEPS * np.asarray(rates)) > bounds).sum())


def dropped_rows(d, drawn=True):
    """[STEPS, NEURONS] of 0 and 1; not drawn: with every offset 0."""
    if not drawn:
        periods = [d.sample(7, 3, t)[0] for t in range(STEPS)]
        return 1.0 - np.stack([pattern_tiles(n, 0, 1, NEURONS)[0] for n in periods])
    words = np.concatenate([d.mask(7, 3, t, 4, NEURONS)[0].bits for t in range(STEPS)])
    return 1.0 - (words >> np.arange(NEURONS, dtype=np.uint32) & 1)


def dropped_tiles(d, skew):
    """[STEPS, tile rows * tile columns] of 0 and 1."""
    height, width = TILES
    shape, tile = (8 * height, 4 * width - 1), (8, 4)
    words = np.stack([d.mask(8, 1, t, *shape, tile=tile, skew=skew)[0].bits for t in range(STEPS)])
    return 1.0 - (words >> np.arange(width, dtype=np.uint32) & 1).reshape(STEPS, -1)


def both_dropped(d, distance):
    """P(two neurons are dropped): they are kept together at the periods that divide the distance,
    and never otherwise."""
    return float(d.probabilities @ (1.0 - 2.0 / PERIODS + (distance % PERIODS == 0) / PERIODS))


def correlation(d, distance):
    return (both_dropped(d, distance) - d.rate**2) / (d.rate * (1.0 - d.rate))


def test_the_bound_is_the_exact_tail():
    sigma = math.sqrt(STEPS / 4)
    # The normal's two-sided 1e-6 is 4.892 standard deviations; outcomes are 1 / sigma apart.
    assert deviation_bound(0.5, 1e-6) / sigma == pytest.approx(4.892, abs=1.5 / sigma)
    assert outside([STEPS / 2, STEPS], [0.5, 0.5]) == 1


@pytest.mark.parametrize("method", ["sgd", "narrow"])
@pytest.mark.parametrize("p", [0.3, 0.5, 0.7])
def test_every_neuron_is_dropped_at_the_rate(p, method):
    d = searched(p, method)
    assert outside(dropped_rows(d).sum(0), np.full(NEURONS, p)) == 0
    # The check sees offsets that are not drawn, and a rate that is off by 0.02.
    assert outside(dropped_rows(d, drawn=False).sum(0), np.full(NEURONS, p)) > 0
    assert outside(dropped_rows(d).sum(0), np.full(NEURONS, p + 0.02)) == NEURONS


@pytest.mark.parametrize("skew", [1, -1, 11])
def test_every_tile_is_dropped_at_the_rate(skew):
    d = searched(0.5)
    counts = dropped_tiles(d, skew).sum(0)
    assert outside(counts, np.full(len(counts), 0.5)) == 0
    assert outside(counts, np.full(len(counts), 0.52)) == len(counts)


def test_pairs_of_neurons_are_dropped_together_as_theory_says():
    d = searched(0.5)
    dropped = dropped_rows(d)
    first, second = np.triu_indices(NEURONS, 1)
    counts = (dropped.T @ dropped)[first, second]
    assert outside(counts, [both_dropped(d, n) for n in second - first]) == 0
    # Independent neurons at p = 0.5 would be dropped together in a quarter of the steps; no pair
    # is near that.
    assert outside(counts, np.full(len(counts), 0.25)) == len(counts)


def test_pairs_of_tiles_are_dropped_together_as_theory_says():
    d = searched(0.5)
    dropped = dropped_tiles(d, 1)
    row, column = np.divmod(np.arange(TILES[0] * TILES[1]), TILES[1])
    first, second = np.triu_indices(len(row), 1)
    distance = abs((row + column)[second] - (row + column)[first])  # skew = 1
    counts = (dropped.T @ dropped)[first, second]
    assert outside(counts, [both_dropped(d, n) for n in distance]) == 0
    # The tiles of an antidiagonal are one: always dropped together.
    np.testing.assert_array_equal(counts[distance == 0], dropped.sum(0)[first[distance == 0]])


# Of two neurons `distance` apart, at p = 0.5 and periods up to 8; conventional dropout's is 0.
CORRELATIONS = {1: 0.255, 2: 0.541, 3: 0.402, 4: 0.638, 5: 0.326, 6: 0.745, 7: 0.302, 8: 0.678,
                12: 0.842, 24: 0.882, 840: 1.0}  # fmt: skip


def test_correlations_between_neurons():
    d = searched(0.5)
    for distance, expected in CORRELATIONS.items():
        assert correlation(d, distance) == pytest.approx(expected, abs=5e-4)
    measured = np.corrcoef(dropped_rows(d).T)
    for distance in range(1, NEURONS):
        # At p = 0.5 a sample correlation r has a standard error of sqrt((1 - r^2) / STEPS), and the
        # mean of several no larger one, however they depend on each other.
        got = np.diagonal(measured, distance).mean()
        assert abs(got - correlation(d, distance)) < 5 / math.sqrt(STEPS)
    # A high rate leaves little room for period 1, and neighbours repel each other.
    assert correlation(searched(0.7), 1) == pytest.approx(-0.033, abs=5e-4)
