"""Data-parallel ranks without any processes: a rank's masks against those of the joined batch."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import distributed, nn

import dropgemm as dg
from dropgemm.torch import convert
from networks import METHODS, RUN, TILE, make

WORLD = 4
FRAMEWORKS = {
    "numpy": lambda: np.zeros(1),
    "torch": lambda: torch.zeros(1),
    "jax": lambda: pytest.importorskip("jax").numpy.zeros(1),
}


def dense(mask):
    return np.asarray(mask.to_dense())


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("tile", [(None, 1), (8, 4)])
@pytest.mark.parametrize("order", ["consecutive", "random"])
def test_a_schedules_ranks_are_parts_of_one_batch(backend, name, tile, order):
    """Also where groups straddle ranks, and where the last set has fewer subnets."""
    schedule = dg.GyroSchedule(40, 0.5, total_steps=30, seed=3, site=1, subnets=10, coscheduled=4,
                               tile_rows=tile[0], tile_cols=tile[1], order=order)  # fmt: skip
    like = FRAMEWORKS[name]()
    for batch, step in itertools.product((16, 12, 7), (0, 13, 29)):
        whole = schedule.mask(step, WORLD * batch, like=like)
        parts = [schedule.mask(step, batch, like=like, rank=r, world=WORLD) for r in range(WORLD)]
        assert all(part.framework == name for part in parts)
        np.testing.assert_array_equal(np.concatenate([dense(p) for p in parts]), dense(whole))
        shared = schedule.mask(step, batch, like=like, rank=2, world=WORLD, rank_policy="shared")
        assert shared.equals(schedule.mask(step, batch, like=like))
        # Tiles are whole groups where a rank begins with one.
        if batch == 16 and tile[0]:
            assert {part.tile for part in parts} == {tile}


def test_a_step_in_an_array_gives_a_rank_the_same_mask():
    for subnets in (16, 10):  # groups that a step changes, and others
        schedule = dg.GyroSchedule(24, 0.5, total_steps=30, seed=1, site=0, subnets=subnets,
                                   coscheduled=4)  # fmt: skip
        for step in (0, 17, 29):
            expected = schedule.mask(step, 10, rank=1, world=3)
            assert schedule.mask(np.array(step), 10, rank=1, world=3).equals(expected)


def test_ids_of_a_rank_are_of_the_groups_it_has_samples_of():
    schedule = dg.GyroSchedule(8, 0.5, total_steps=10, seed=0, site=0, subnets=8, tile_rows=8)
    whole = schedule.subnets(2, 36).tolist()
    assert len(whole) == 5
    got = [schedule.subnets(2, 12, rank=rank, world=3).tolist() for rank in range(3)]
    assert got == [whole[0:2], whole[1:3], whole[3:5]]
    shared = schedule.subnets(2, 12, rank=2, world=3, rank_policy="shared")
    assert shared.tolist() == schedule.subnets(2, 12).tolist()
    assert schedule.subnets(2, 0, rank=1, world=3).tolist() == []


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_bernoulli_ranks_are_parts_of_one_mask(backend, name):
    settings = {"seed": 7, "site": 2, "step": 5, "like": FRAMEWORKS[name]()}
    for rows, tile in ((6, (1, 1)), (8, (4, 3))):
        whole = dg.bernoulli_mask(WORLD * rows, 37, 0.6, tile=tile, **settings)
        parts = [
            dg.bernoulli_mask(rows, 37, 0.6, tile=tile, rank=r, world=WORLD, **settings)
            for r in range(WORLD)
        ]
        np.testing.assert_array_equal(np.concatenate([dense(p) for p in parts]), dense(whole))
        shared = dg.bernoulli_mask(rows, 37, 0.6, tile=tile, rank=3, world=WORLD,
                                   rank_policy="shared", **settings)  # fmt: skip
        assert shared.equals(parts[0])


def test_ranks_outside_of_their_world_are_refused():
    schedule = dg.GyroSchedule(8, 0.5, total_steps=10, seed=0, site=0, subnets=8)
    for ask in (lambda **r: schedule.mask(0, 8, **r), lambda **r: schedule.subnets(0, 8, **r),
                lambda **r: dg.bernoulli_mask(8, 8, 0.5, seed=0, site=0, **r)):  # fmt: skip
        for ranks, error, message in (
            ({"rank": 2, "world": 2}, ValueError, "rank: expected an integer in .*got 2"),
            ({"rank": -1, "world": 2}, ValueError, "rank: expected an integer in .*got -1"),
            ({"world": 0}, ValueError, "world: expected an integer in"),
            ({"rank": 0.5}, TypeError, "rank: expected an integer, got float"),
            ({"rank_policy": "own"}, ValueError, "rank_policy: expected 'disjoint' or 'shared'"),
        ):
            with pytest.raises(error, match=message):
                ask(**ranks)
    with pytest.raises(ValueError, match="first_row: expected a multiple of the 4 rows"):
        dg.bernoulli_mask(6, 8, 0.5, seed=0, site=0, tile=(4, 1), rank=1, world=2)
    with pytest.raises(ValueError, match="batch: expected an integer in"):
        schedule.mask(0, 1 << 31, rank=1, world=2)


# --- Layers ---------------------------------------------------------------------------------------


@pytest.fixture
def place(monkeypatch):
    """What torch.distributed says: place[:] = rank, world."""
    now = [0, 1]
    monkeypatch.setattr(distributed, "is_initialized", lambda: now[1] > 1)
    monkeypatch.setattr(distributed, "get_rank", lambda group=None: now[0])
    monkeypatch.setattr(distributed, "get_world_size", lambda group=None: now[1])
    return now


def masks_of(schedule, batch):
    torch.manual_seed(5)  # of "bernoulli"
    return [site.mask(batch).to_dense() for site in schedule.sites]


def started(method, **rest):
    model = make("mlp")
    return model, convert(model, method=method, advance="manual", **{**RUN, **TILE, **rest})


@pytest.mark.parametrize("method", METHODS)
def test_sites_follow_the_policy_wherever_the_process_is_now(place, method):
    _, alone = started(method)
    _, disjoint = started(method)
    _, shared = started(method, rank_policy="shared")
    for step in range(4):
        joined, own = masks_of(alone, 36), masks_of(alone, 12)
        for rank in range(3):
            place[:] = rank, 3
            for ours, whole in zip(masks_of(disjoint, 12), joined, strict=True):
                tiles = method == "tile"  # masks of weights
                part = whole if tiles else whole[12 * rank : 12 * (rank + 1)]
                assert torch.equal(ours, part), (step, rank)
            assert all(map(torch.equal, masks_of(shared, 12), own))
        place[:] = 0, 1
        assert all(map(torch.equal, masks_of(disjoint, 36), joined))
        for schedule in (alone, disjoint, shared):
            schedule.step()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "bernoulli"])
def test_an_lstms_ranks_are_parts_of_one_batch(place, method):
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(12, 32, 2, batch_first=True, dropout=0.5)
            self.head = nn.Linear(32, 3)

        def forward(self, x):
            return self.head(self.lstm(x)[0])

    torch.manual_seed(0)
    model = Tagger().double()
    schedule = convert(model, method=method, advance="manual", tile_rows=20, tile_cols=8,
                       weight_tile=(8, 8), **RUN)  # fmt: skip
    x = torch.randn(18, 5, 12, dtype=torch.float64)  # groups of four samples; ranks have six
    for _ in range(3):
        place[:] = 0, 1
        torch.manual_seed(5)
        expected = model(x)
        for rank in range(3):
            place[:] = rank, 3
            torch.manual_seed(5)
            got = model(x[6 * rank : 6 * rank + 6])
            torch.testing.assert_close(got, expected[6 * rank : 6 * rank + 6], rtol=0, atol=1e-12)
        schedule.step()


@pytest.mark.parametrize("method", ["block", "gyro"])
def test_one_compiled_graph_serves_the_steps_of_a_rank(place, method):
    place[:] = 1, 3
    model, schedule = started(method)
    reference, expected = started(method)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, fullgraph=True)
    for batch in (12, 12, 12, 12, 10, 12):
        x = torch.randn(batch, 20, dtype=torch.float64)
        torch.testing.assert_close(compiled(x), reference(x), rtol=1e-12, atol=1e-12)
        schedule.step()
        expected.step()
    assert len(graphs) <= 2  # the ragged batch may have one of its own


def test_copies_keep_their_process_group():
    group = torch.distributed.ProcessGroup(0, 1)
    model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 2))
    schedule = convert(model, method="block", advance="manual", process_group=group, **RUN)
    twin = copy.deepcopy(model)
    assert twin[2].clock is not schedule.clock
    assert twin[2].clock.ranks.group is group


def test_processes_outside_of_the_group_are_told(place):
    place[:] = -1, 2
    model, _ = started("block")
    with pytest.raises(ValueError, match="process_group: expected one that this process belongs"):
        model(torch.zeros(4, 20, dtype=torch.float64))


def test_the_report_says_which_rank_this_is(place):
    _, schedule = started("block", rank_policy="shared")
    assert "rank" not in schedule.report()
    place[:] = 1, 2
    assert schedule.report().endswith("rank 1 of 2, shared")


def test_the_policy_is_part_of_a_state_and_the_world_is_not(place):
    place[:] = 1, 2
    _, disjoint = started("block")
    disjoint.step()
    state = disjoint.state_dict()
    place[:] = 0, 1
    _, alone = started("block")
    alone.load_state_dict(state)
    assert alone.state_dict() == state
    _, shared = started("block", rank_policy="shared")
    with pytest.raises(ValueError, match="expected rank_policy 'shared' as this schedule has, got"):
        shared.load_state_dict(state)
    with pytest.raises(ValueError, match="rank_policy: expected one of 'disjoint', 'shared', got"):
        started("block", rank_policy="own")


@pytest.mark.parametrize("method", METHODS)
def test_steps_beyond_the_run_are_said_once(method):
    _, schedule = started(method)
    for _ in range(RUN["total_steps"]):
        schedule.step()
    if method in ("block", "gyro"):
        with pytest.warns(UserWarning, match="step 13: expected at most total_steps=12 optimizer"):
            schedule.step()
    schedule.step()
    assert int(schedule.clock.step) >= 13
