"""search_distribution against distributions solved here by bisection, and what is drawn from it."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch

import dropgemm as dg
from dense import drawn_pattern, pattern_tiles, to_numpy

WHERE = {"seed": 1 << 63, "site": 5}


def shares(periods):
    return 1.0 - 1.0 / np.arange(1, periods + 1)


def family(tilt, periods):
    """The distributions of the largest entropy at their own rate."""
    exponent = tilt * shares(periods)
    d = np.exp(exponent - exponent.max())
    return d / d.sum()


def bisect(periods, rising):
    """The member of the family where rising(d, tilt) crosses 0."""
    low, high = -1e6, 1e6
    for _ in range(200):
        tilt = (low + high) / 2
        low, high = (tilt, high) if rising(family(tilt, periods), tilt) < 0 else (low, tilt)
    return family((low + high) / 2, periods)


def largest_entropy(p, periods):
    return bisect(periods, lambda d, _: d @ shares(periods) - p)


def point_of_rest(p, periods, lambda1=0.5, lambda2=0.5):
    """Where the gradient of the paper's loss is 0: tilt = 2 N lambda1 / lambda2 (p - rate)."""
    stiffness = 2 * periods * lambda1 / lambda2
    return bisect(periods, lambda d, tilt: tilt - stiffness * (p - d @ shares(periods)))


@pytest.mark.parametrize("max_period", [2, 3, 5, 8, 13, 20, 40, 64, 1024])
def test_the_descent_comes_within_a_thousandth_of_the_rate(max_period):
    for p in np.linspace(0.05, 0.95, 37):
        if p >= 1 - 1 / max_period - 1e-9:
            continue
        found = dg.search_distribution(p, max_period)
        assert found.converged
        assert abs(found.rate - p) <= 1e-3, p  # what is asked of it
        assert abs(found.rate - p) <= 1e-4 / 2, p  # what tolerance=1e-4 promises
        off = abs(found.probabilities - largest_entropy(p, max_period)).sum()
        assert off <= 1.1e-4, p  # to first order 1e-4
        exact = dg.search_distribution(p, max_period, "exact")
        assert exact.rate == pytest.approx(p, abs=1e-13)
        assert abs(found.probabilities - exact.probabilities).sum() <= 1.1e-4, p
        assert found.entropy == pytest.approx(exact.entropy, abs=1e-2)


@pytest.mark.parametrize(
    ("p", "features", "expected"),
    [(0, None, 1), (0.1, None, 8), (0.5, None, 8), (0.75, None, 8), (0.8, None, 10),
     (0.9, None, 20), (0.95, None, 40), (0.5, 5, 5), (0.5, 2, 2), (0.9, 4096, 20), (0, 1, 1)],
)  # fmt: skip
def test_default_max_period(p, features, expected):
    found = dg.search_distribution(p, features=features)
    assert found.max_period == len(found.probabilities) == expected
    assert found.p == p


def test_the_paper_to_the_letter():
    """The printed weights hold the rate off p: 0.564 for 0.5."""
    found = dg.search_distribution(0.5, 8, anneal=False)
    assert found.rate == pytest.approx(0.564, abs=5e-4)
    assert point_of_rest(0.5, 8) @ shares(8) == pytest.approx(0.564, abs=5e-4)
    for p, periods, lambda2 in ((0.3, 8, 0.5), (0.5, 16, 0.05), (0.8, 32, 2.0)):
        found = dg.search_distribution(p, periods, anneal=False, lambda2=lambda2, threshold=1e-15)
        rest = point_of_rest(p, periods, lambda2=lambda2)
        assert abs(found.probabilities - rest).sum() < 1e-4
        assert set(found.weights) == {lambda2}


@pytest.mark.parametrize("anneal", [True, False])
def test_the_history_is_that_of_the_descent(anneal):
    p, periods = 0.3, 16
    found = dg.search_distribution(p, periods, anneal=anneal)
    points = found.iterations + 1
    assert len(found.losses) == len(found.rates) == len(found.weights) == points
    uniform = shares(periods).mean()
    assert found.rates[0] == pytest.approx(uniform)
    assert found.losses[0] == pytest.approx(
        0.5 * (uniform - p) ** 2 - 0.5 / periods * math.log(periods)
    )
    assert found.rates[-1] == pytest.approx(found.rate)
    assert found.losses[-1] == pytest.approx(
        0.5 * (found.rate - p) ** 2 - found.weights[-1] / periods * found.entropy
    )
    same = np.diff(found.weights) == 0
    assert (np.diff(found.losses)[same] <= 0).all()
    assert (np.diff(found.weights)[~same] < 0).all()
    assert same.all() != anneal


def test_nothing_descends_where_nothing_is_searched():
    for found, probabilities in (
        (dg.search_distribution(0.0), [1]),
        (dg.search_distribution(0.0, 3), [1, 0, 0]),
        (dg.search_distribution(0.5, 2), [0, 1]),
        (dg.search_distribution(0.95, 20), [0] * 19 + [1]),
        (dg.search_distribution(1 - 1 / 3, 3, "exact"), [0, 0, 1]),
    ):
        assert found.probabilities.tolist() == probabilities
        assert (found.iterations, len(found.losses), found.entropy) == (0, 0, 0.0)
        assert found.converged
    exact = dg.search_distribution(0.5, 8, "exact")
    assert exact.iterations > 0
    assert len(exact.losses) == len(exact.rates) == len(exact.weights) == 0


def test_falling_short_warns():
    with pytest.warns(
        RuntimeWarning, match="max_iterations: expected enough for the search"
    ) as log:
        found = dg.search_distribution(0.3, 64, max_iterations=4)
    assert log[0].filename == __file__
    assert not found.converged
    assert found.iterations == 4
    assert f"got 4, after which it drops at {found.rate:.6f}"[:-2] in str(log[0].message)


# --- PatternDistribution -------------------------------------------------------------------------


def test_a_distribution_of_ones_own():
    mine = dg.PatternDistribution([0.5, 0.25, 0.25])
    assert mine.max_period == 3
    assert mine.rate == mine.p == pytest.approx(0.25 / 2 + 0.25 * 2 / 3)
    assert mine.entropy == pytest.approx(1.5 * math.log(2))
    assert mine.thresholds.tolist() == [1 << 31, 3 << 30, 1 << 32]
    assert mine.thresholds.dtype == np.uint64
    assert mine.converged
    assert mine.iterations == 0
    assert dg.PatternDistribution(np.array([0.5, 0.5], np.float32), p=0.3).p == 0.3


def test_distributions_are_values():
    found = dg.search_distribution(0.4, 6)
    for array in (found.probabilities, found.losses, found.rates, found.weights, found.thresholds):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.p = 0.5
    for same in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert same == found
        assert hash(same) == hash(found)
        assert same.losses.tolist() == found.losses.tolist()
        assert same.sample(**WHERE, step=3) == found.sample(**WHERE, step=3)
        with pytest.raises(ValueError, match="read-only"):
            same.probabilities[0] = 0
    assert found == dg.PatternDistribution(found.probabilities, 0.4)
    assert found != dg.PatternDistribution(found.probabilities)
    assert found != dg.search_distribution(0.4, 7)
    assert found != 0.4
    assert repr(found) == (
        f"PatternDistribution(p=0.4, max_period=6, rate={found.rate:.6f}, "
        f"entropy={found.entropy:.4f}, iterations={found.iterations})"
    )
    # What it was made of may be written to.
    values = np.array([0.5, 0.5])
    mine = dg.PatternDistribution(values)
    values[:] = 1, 0
    assert mine.rate == 0.25


def test_periods_are_drawn_as_often_as_they_are_likely():
    """Each count is off by t with chance 2 exp(-2 t^2 / steps) at most (Hoeffding)."""
    steps = 20_000
    found = dg.search_distribution(0.5)
    drawn = np.array([found.sample(**WHERE, step=step) for step in range(steps)])
    counts = np.bincount(drawn[:, 0], minlength=9)[1:]
    bound = math.sqrt(steps / 2 * math.log(2 * 8 / 1e-3))
    assert (abs(counts - steps * found.probabilities) <= bound).all()
    assert (abs(counts - steps / 8) > bound).any()  # nor would any distribution have passed
    assert (drawn[:, 1] < drawn[:, 0]).all()
    # Neurons: dropped at the rate, all of them.
    dropped = 1 - np.stack([pattern_tiles(*pattern, 1, 16)[0] for pattern in drawn]).sum(0) / steps
    bound = math.sqrt(math.log(2 * 16 / 1e-3) / 2 / steps)
    assert (abs(dropped - found.rate) <= bound).all()
    assert (abs(dropped - found.rate - 0.04) > bound).all()


@pytest.mark.parametrize("tile", [None, (8, 4)])
def test_masks_are_the_sampled_patterns(backend, framework, tile):
    found = dg.search_distribution(0.6, 5)
    rows, cols = 70, 66
    like = torch.zeros(1) if framework == "torch" else np.zeros(1)
    make = torch.tensor if framework == "torch" else np.array
    for step, call in ((0, 0), (7, 0), (7, 1), (123456, 2)):
        period, offset = found.sample(**WHERE, step=step, call=call)
        assert (period, offset) == drawn_pattern(found.thresholds, **WHERE, step=step, call=call)
        if tile is None:
            expected = pattern_tiles(period, offset, rows, cols)
        else:
            tiles = pattern_tiles(period, offset, 9, 17, 1)
            expected = tiles.repeat(8, 0).repeat(4, 1)[:rows, :cols]
        for mask, scale in (
            found.mask(**WHERE, step=step, rows=rows, cols=cols, call=call, like=like, tile=tile),
            found.mask(**WHERE, step=make(step), rows=rows, cols=cols, call=call, tile=tile),
            found.mask(*WHERE.values(), make(step), rows, cols, call, like, tile, 1),
        ):
            assert mask.framework == framework
            assert mask.shape == (rows, cols)
            assert mask.tile == (tile or (rows, 1))
            assert mask.keep_hint == 1 - found.rate
            np.testing.assert_array_equal(to_numpy(mask.to_dense()), expected)
            assert scale.shape == ()
            assert str(scale.dtype).removeprefix("torch.") == "float32"
            assert float(scale) == period
        assert found.sample(**WHERE, step=make(step), call=call) == (period, offset)


def test_one_compiled_graph_serves_every_step():
    found = dg.search_distribution(0.5)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def step_of(step, x):
        mask, scale = found.mask(**WHERE, step=step, rows=4, cols=16, like=x)
        return dg.matmul(x, x, trans_b=True, a_mask=mask, scale=scale)

    x = torch.arange(64.0).reshape(4, 16)
    for step in (0, 1, 5):
        mask, scale = found.mask(**WHERE, step=step, rows=4, cols=16, like=x)
        expected = scale * ((x * mask.to_dense()) @ x.T)  # whole numbers below 2^24: exact
        assert torch.equal(step_of(torch.tensor(step), x), expected)


def test_a_linear_skew_warns_in_the_callers_line():
    found = dg.PatternDistribution([0.5, 0.5])
    with pytest.warns(UserWarning, match="skew='linear'") as log:
        found.mask(**WHERE, step=0, rows=64, cols=64, tile=(8, 8), skew="linear")
    assert log[0].filename == __file__


# --- Bad input -----------------------------------------------------------------------------------

RATE = r"p: expected a (dropout )?rate in \[0, 1"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"p": 1.0}, ValueError, RATE + r"\), as every pattern keeps something, got 1"),
        ({"p": math.nan}, ValueError, RATE),
        ({"p": -0.1}, ValueError, RATE),
        ({"p": 1.5}, ValueError, RATE),
        ({"p": "0.5"}, TypeError, RATE),
        ({"p": 1 - 1e-9}, ValueError, "p: expected a dropout rate that periods of up to 1048576"),
        (
            {"p": 0.6, "max_period": 2},
            ValueError,
            "max_period: expected at least 3, the least max_period that drops at 0.6, got 2, "
            "which drops at 0.5 at most",
        ),
        (
            {"p": 0.9, "features": 9},
            ValueError,
            "features: expected at least 10, the least max_period that drops at 0.9, got 9, "
            "which drops at 0.888888889 at most",
        ),
        ({"max_period": 0}, ValueError, r"max_period: expected an integer in \[1, "),
        ({"max_period": 1 << 30}, ValueError, r"max_period: expected a number in \[1, 1048576\]"),
        ({"max_period": 8.0}, TypeError, "max_period: expected an integer, got float"),
        ({"max_period": 9, "features": 8}, ValueError,
         "max_period: expected at most features, 8, got 9"),
        ({"features": 0}, ValueError, r"features: expected an integer in \[1, "),
        ({"method": "adam"}, ValueError, "method: expected 'sgd', 'exact' or 'narrow', got 'adam'"),
        ({"lambda1": 0}, ValueError, r"lambda1: expected a weight in \[0.001, 1000\], got 0"),
        ({"lambda2": math.nan}, ValueError, r"lambda2: expected a weight in .*, got nan"),
        ({"lambda2": "much"}, TypeError, "lambda2: expected a number, got 'much'"),
        ({"threshold": 0}, ValueError, "threshold: expected a finite number above 0, got 0"),
        ({"threshold": None}, TypeError, "threshold: expected a number, got None"),
        ({"tolerance": 2}, ValueError, r"tolerance: expected a number in \(0, 1\], got 2"),
        ({"max_iterations": 0}, ValueError, "max_iterations: expected at least 1, got 0"),
        ({"max_iterations": 1.5}, TypeError, "max_iterations: expected an integer, got float"),
        ({"anneal": "no"}, TypeError, "anneal: expected a bool, got 'no'"),
    ],
)  # fmt: skip
def test_bad_searches_are_refused(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        dg.search_distribution(**{"p": 0.5, **arguments})


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([], "probabilities: expected at least that of period 1, got none"),
        ([0.5, 0.4], "probabilities: expected a sum within 1e-6 of 1, got 0.9"),
        ([1.5, -0.5], "probabilities: expected finite numbers of at least 0, got -0.5"),
        ([math.nan, 1], "probabilities: expected finite numbers"),
        ([[0.5, 0.5]], "probabilities: expected a 1-D array, got 2-D"),
    ],
)
def test_bad_probabilities_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        dg.PatternDistribution(probabilities)


@pytest.mark.parametrize("probabilities", ["ab", [1j], [[0.5, 0.5], [1.0]], [print]])
def test_probabilities_are_numbers(probabilities):
    with pytest.raises(TypeError, match="probabilities: expected an array of numbers, got"):
        dg.PatternDistribution(probabilities)


def test_bad_draws_are_refused():
    found = dg.search_distribution(0.5)
    with pytest.raises(ValueError, match="periods: expected at most the mask's 7 tile columns"):
        found.mask(**WHERE, step=0, rows=4, cols=7)
    with pytest.raises(ValueError, match="the smaller of the mask's 2 tile rows and 8 tile"):
        found.mask(**WHERE, step=0, rows=64, cols=256, tile=(32, 32))
    with pytest.raises(ValueError, match="skew: expected an integer coprime to every period"):
        found.mask(**WHERE, step=0, rows=256, cols=256, tile=(32, 32), skew=3)
    for skew in (3, -1, "linear"):
        with pytest.raises(ValueError, match="skew: expected a tile beside it"):
            found.mask(**WHERE, step=0, rows=256, cols=256, skew=skew)
    with pytest.raises(ValueError, match="step: expected an integer in"):
        found.mask(**WHERE, step=-1, rows=4, cols=8)
    with pytest.raises(ValueError, match="seed: expected an integer in"):
        found.sample(seed=-1, site=0, step=0)
    with pytest.raises(TypeError, match="p: expected a rate"):
        dg.PatternDistribution([1.0], p="none")


def test_narrow_mixes_two_neighbours():
    for p, expected in ((0.3, {1: 0.4, 2: 0.6}), (0.5, {2: 1.0}), (0.7, {3: 0.6, 4: 0.4})):
        found = dg.search_distribution(p, method="narrow")
        assert found.rate == pytest.approx(p, abs=1e-12)
        periods = (found.probabilities > 1e-12).nonzero()[0] + 1
        assert dict(zip(periods.tolist(), found.probabilities[periods - 1], strict=True)) == {
            period: pytest.approx(share, abs=1e-12) for period, share in expected.items()
        }
        assert found.max_period == max(expected)
        assert found.converged
        assert found.iterations == len(found.losses) == 0
    assert dg.search_distribution(0.5, 8, "narrow").max_period == 8
