"""`dropgemm show schedule`: its spans, its colours and its words."""

import numpy as np
import pytest

import dropgemm as dg
from dropgemm.plots import schedule
from figures import show, words


@pytest.mark.parametrize("order", ["consecutive", "random"])
@pytest.mark.parametrize(
    ("steps", "subnets", "coscheduled", "batch", "tile_rows"),
    [(24, 16, 4, 256, None), (24, 16, 4, 256, 128), (10, 30, 4, 100, 30), (9, 5, 2, 7, None)],
)
def test_a_timeline_holds_every_step(steps, subnets, coscheduled, batch, tile_rows, order):
    gyro = dg.GyroSchedule(
        1, 0.5, total_steps=steps, seed=0, site=0, subnets=subnets, coscheduled=coscheduled,
        tile_rows=tile_rows, order=order,
    )  # fmt: skip
    spans = schedule.timeline(gyro, batch, 0, steps)
    step, seen = 0, set()
    for span in spans:
        assert span.first_step == step
        for column in span.ids.T:
            assert column.tolist() == gyro.subnets(step, batch).tolist()
            assert len(column) == -(-batch // span.group_rows)
            step += 1
        seen |= set(span.ids.ravel().tolist())
        if order == "consecutive":
            assert (span.ids // coscheduled == span.number).all()
    assert step == steps
    assert len({span.number for span in spans}) == len(spans)
    if order == "consecutive":
        assert len(seen) == gyro.used(batch)
    middle = schedule.timeline(gyro, batch, 3, 5)
    assert sum(span.ids.shape[1] for span in middle) == 2
    assert middle[0].ids[:, 0].tolist() == gyro.subnets(3, batch).tolist()


def test_subnets_of_a_set_differ_in_colour_and_so_do_neighbouring_sets():
    gyro = dg.GyroSchedule(1, 0.5, total_steps=64, seed=0, site=0, subnets=32, coscheduled=8)
    colours = schedule.subnet_colours(gyro, np.arange(32))
    assert colours.shape == (32, 3)
    assert len({tuple(colour) for colour in colours.round(6)}) == 32
    lightness = (colours @ (0.299, 0.587, 0.114)).reshape(4, 8)
    assert (np.diff(lightness, axis=1) < -0.02).all()  # told apart without hue


def test_a_schedules_words(tmp_path, saved):
    assert show("schedule", tmp_path) == 0
    said = words(saved[-1])
    assert "16 subnets before training and trains 4 at a time: such a set serves 6 steps" in said
    assert "Gyro, 4 groups of 64 samples" in said
    assert "room for all 4 subnets of a set" in said
    assert "Block-wise gyro, 2 groups of 128 samples" in said
    assert "room for 2 of the 4 subnets of a set: they take turns over 2 successive" in said
    assert said.count("The run trains 16 of its 16 subnets.") == 2
    assert said.count("set 3: subnets 12 to 15") == 2
    assert show("schedule --steps 10 --subnets 30 --tile-rows 0 --batch 100", tmp_path) == 0
    assert "The run trains 28 of its 30 subnets: too few steps, or groups, for all" in words(
        saved[-1]
    )
    assert show("schedule --order random --start 4 --shown 8", tmp_path) == 0
    said = words(saved[-1])
    assert "in random order, each step draws 4 of them anew" in said
    assert "set 0" not in said
    assert saved[-1].axes[0].get_xlim() == (4, 12)
