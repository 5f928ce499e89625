"""Masks and schedules against the formulas written out in dense.py; bits and ids exactly."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch

import dropgemm as dg
from dense import (
    bernoulli_tiles,
    draws,
    exact_tiles,
    gyro_groups,
    keep_count,
    random_ids,
    to_numpy,
)


def tiles_of(mask):
    return to_numpy(mask.to_dense())[:: mask.tile[0], :: mask.tile[1]]


@pytest.mark.parametrize("total", [1, 7, 100, 1000])
@pytest.mark.parametrize(("subnets", "tau"), [(8, 8), (64, 8), (10, 4), (3, 8), (7, 1), (100, 3)])
def test_ids_follow_the_printed_formulas(total, subnets, tau):
    for batch, tile_rows in itertools.product((1, 5, 64, 300), (None, 1, 128)):
        schedule = dg.GyroSchedule(32, 0.5, total_steps=total, seed=3, site=1, subnets=subnets,
                                   coscheduled=tau, tile_rows=tile_rows)  # fmt: skip
        for step in {0, 1, total // 3, total - 1, total, total + 50}:
            _, ids = gyro_groups(step, batch, total, subnets, tau, tile_rows)
            got = schedule.subnets(step, batch)
            assert got.dtype == np.int64
            assert got.tolist() == ids, (batch, tile_rows, step)


@pytest.mark.parametrize("tile", [(None, 1), (128, 32), (3, 8)])
@pytest.mark.parametrize("draw", ["exact", "bernoulli"])
def test_bits_are_those_of_the_subnets(backend, framework, tile, draw):
    tile_rows, tile_cols = tile
    features, p, seed, site = 70, 0.4, 12345678901234567890, 9
    schedule = dg.GyroSchedule(features, p, total_steps=20, seed=seed, site=site, subnets=10,
                               coscheduled=4, tile_rows=tile_rows, tile_cols=tile_cols,
                               draw=draw)  # fmt: skip
    cols = -(-features // tile_cols)
    like = torch.zeros(1) if framework == "torch" else np.zeros(1)
    for step, batch in ((0, 260), (13, 41), (19, 3)):
        mask = schedule.mask(step, batch, like=like)
        rows, ids = gyro_groups(step, batch, 20, 10, 4, tile_rows)
        assert mask.framework == framework
        assert (mask.shape, mask.tile) == ((batch, features), (rows, tile_cols))
        assert mask.keep_hint == schedule.keep_rate
        for row, subnet in zip(tiles_of(mask), ids, strict=True):
            if draw == "exact":
                expected = exact_tiles(p, seed, site, subnet, cols)
            else:
                expected = [d >= int(p * 2**32) for d in draws(seed, 1, site, subnet, 0, 0, cols)]
            np.testing.assert_array_equal(row, expected)


def test_a_step_in_an_array_gives_the_same_mask(framework):
    make = torch.tensor if framework == "torch" else np.array
    for subnets, tile_rows in ((16, None), (10, None), (10, 16)):
        schedule = dg.GyroSchedule(24, 0.5, total_steps=30, seed=1, site=0, subnets=subnets,
                                   coscheduled=4, tile_rows=tile_rows)  # fmt: skip
        for step in (0, 3, 17, 29):
            from_array = schedule.mask(make(step), 50)
            assert from_array.framework == framework
            assert from_array.equals(schedule.mask(step, 50, like=make(0)))
            assert schedule.subnets(make(step), 50).tolist() == schedule.subnets(step, 50).tolist()
        clamped = schedule.mask(make(-5), 50)
        assert clamped.equals(schedule.mask(0, 50, like=make(0)))


def test_rows_of_a_tile_are_a_group_unless_the_step_changes_it():
    def tile(subnets, step):
        schedule = dg.GyroSchedule(8, 0.5, total_steps=40, seed=0, site=0, subnets=subnets,
                                   coscheduled=4)  # fmt: skip
        return schedule.mask(step, 40).tile

    assert tile(16, np.array(3)) == (10, 1)  # every set has 4 subnets
    assert tile(10, 3) == (10, 1)
    assert tile(10, 39) == (20, 1)  # the last set has 2
    assert tile(10, np.array(3)) == (1, 1)


def test_random_order_draws_without_replacement_every_step():
    settings = {"total_steps": 50, "seed": 77, "subnets": 20, "coscheduled": 6}
    first = dg.GyroSchedule(16, 0.5, site=0, order="random", **settings)
    other = dg.GyroSchedule(64, 0.5, site=5, order="random", **settings)
    for step in (0, 1, 49):
        ids = first.subnets(step, 12).tolist()
        assert set(ids) == set(random_ids(77, step, 20, 6))
        assert other.subnets(step, 12).tolist() == ids
    assert first.subnets(0, 12).tolist() != first.subnets(1, 12).tolist()


def test_bernoulli_bits(backend, framework):
    like = torch.zeros(1) if framework == "torch" else None
    for p, (rows, cols), tile in ((0.3, (5, 70), (1, 1)), (0.0, (3, 3), (1, 1)),
                                  (1.0, (3, 3), (1, 1)), (0.6, (20, 37), (4, 3))):  # fmt: skip
        mask = dg.bernoulli_mask(rows, cols, p, seed=1 << 63, site=4, step=6, call=2, tile=tile,
                                 like=like)  # fmt: skip
        expected = bernoulli_tiles(p, 1 << 63, 4, 6, 2, -(-rows // tile[0]), -(-cols // tile[1]))
        np.testing.assert_array_equal(tiles_of(mask), expected)
        assert mask.keep_hint == pytest.approx(1 - p)
    step = torch.tensor(6) if framework == "torch" else np.array(6)
    from_array = dg.bernoulli_mask(
        20, 37, 0.6, seed=1 << 63, site=4, step=step, call=2, tile=(4, 3)
    )
    assert from_array.equals(mask)


def test_keep_rate_and_scale():
    exact = dg.GyroSchedule(1024, 0.1, total_steps=10, seed=0, site=0, tile_rows=128, tile_cols=32)
    assert exact.keep_rate == keep_count(0.1, 32) / 32 == 29 / 32
    assert exact.scale() == exact.scale("exact") == 32 / 29
    assert exact.scale("rate") == pytest.approx(1 / 0.9)
    free = dg.GyroSchedule(1024, 0.1, total_steps=10, seed=0, site=0)
    assert free.keep_rate == pytest.approx(0.9)
    assert free.scale() == free.scale("rate") == pytest.approx(1 / 0.9)
    with pytest.raises(ValueError, match="scale: expected 'rate' for Bernoulli draws"):
        free.scale("exact")
    for tile_rows in (None, 8):
        nothing = dg.GyroSchedule(8, 1.0, total_steps=1, seed=0, site=0, subnets=1,
                                  tile_rows=tile_rows)  # fmt: skip
        assert nothing.scale() == 0.0
        assert not nothing.mask(0, 8).to_dense().any()


def test_warns_once_of_subnets_that_a_run_does_not_use():
    schedule = dg.GyroSchedule(8, 0.5, total_steps=10, seed=0, site=0, tile_rows=128)
    with pytest.warns(UserWarning, match="10 steps at batch 128 uses 10 of 1024 subnets"):
        schedule.mask(0, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.mask(1, 128)
        full = dg.GyroSchedule(8, 0.5, total_steps=10, seed=0, site=0, subnets=4, coscheduled=2)
        full.mask(0, 128)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_give_the_same_masks(duplicate):
    schedule = dg.GyroSchedule(40, 0.5, total_steps=10, seed=2, site=3, subnets=4, tile_rows=16)
    assert duplicate(schedule).mask(3, 64).equals(schedule.mask(3, 64))
    assert "site=3" in repr(schedule)


GOOD = {"features": 8, "p": 0.5, "total_steps": 10, "seed": 0, "site": 0}
BAD_SCHEDULES = [
    ({"p": 1.5}, ValueError, r"p: expected a rate in \[0, 1\], got 1.5"),
    ({"p": float("nan")}, ValueError, "p: expected a rate .* got nan"),
    ({"p": "half"}, TypeError, "p: expected a rate"),
    ({"p": "0.5"}, TypeError, r"p: expected a rate in \[0, 1\], got '0.5'"),
    ({"p": True}, TypeError, "p: expected a rate .* got True"),
    ({"total_steps": 0}, ValueError, "total_steps: expected an integer in"),
    ({"total_steps": 2.5}, TypeError, "total_steps: expected an integer, got float"),
    ({"seed": -1}, ValueError, "seed: expected"),
    ({"seed": 1 << 64}, ValueError, "seed: expected"),
    ({"site": 1 << 32}, ValueError, "site: expected"),
    ({"subnets": 0}, ValueError, "subnets: expected"),
    ({"coscheduled": True}, TypeError, "coscheduled: expected an integer, got a bool"),
    ({"tile_cols": 0}, ValueError, "tile_cols: expected"),
    ({"tile_rows": 0}, ValueError, "tile_rows: expected"),
    ({"order": "shuffled"}, ValueError, "order: expected 'consecutive' or 'random'"),
    ({"draw": "coin"}, ValueError, "draw: expected 'exact' or 'bernoulli'"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_SCHEDULES)
def test_bad_schedules_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        dg.GyroSchedule(**{**GOOD, **change})


def test_bad_steps_and_batches_are_refused():
    schedule = dg.GyroSchedule(**GOOD)
    for step, error, message in (
        (-1, ValueError, "step: expected an integer in"),
        (1 << 32, ValueError, "step: expected"),
        (0.5, TypeError, "step: expected an integer, got float"),
        (np.array(0.5), TypeError, "step: expected an integer array, got float64"),
        (torch.tensor(0.5), TypeError, "step: expected an integer tensor, got torch.float32"),
        (np.array([1]), ValueError, "step: expected an array of no dimension"),
    ):
        with pytest.raises(error, match=message):
            schedule.mask(step, 4)
    for batch in (-1, 1 << 32):
        with pytest.raises(ValueError, match="batch: expected an integer in"):
            schedule.mask(0, batch)
        with pytest.raises(ValueError, match="batch: expected an integer in"):
            schedule.subnets(0, batch)
    with pytest.raises(TypeError, match="like: expected a NumPy array"):
        schedule.mask(0, 4, like="torch")
    with pytest.raises(TypeError, match="step: expected an array of the framework of like"):
        schedule.mask(np.array(0), 4, like=torch.zeros(1))
    with pytest.raises(ValueError, match="p: expected a rate"):
        dg.bernoulli_mask(4, 4, -0.1, seed=0, site=0)
    with pytest.raises(ValueError, match="call: expected"):
        dg.bernoulli_mask(4, 4, 0.1, seed=0, site=0, call=1 << 28)


def test_sizes_that_overflow_are_refused(framework):
    like = torch.zeros(1) if framework == "torch" else None
    with pytest.raises(ValueError, match=r"mask: expected fewer than 2\^60 elements, got"):
        dg.bernoulli_mask(1 << 61, 1 << 61, 0.5, seed=0, site=0, like=like)
    wide = dg.GyroSchedule(1 << 39, 0.5, total_steps=1, seed=0, site=0)
    with pytest.raises(ValueError, match=r"mask: expected fewer than 2\^60 elements, got"):
        wide.mask(0, 1 << 30, like=like)
