"""What convert and a converted model refuse, and that the message says what to do."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from dropgemm.torch import BlockDropout, Clock, Site, convert, revert
from networks import RUN, TILE, P, make

SETTINGS = {"method": "block", **RUN, **TILE}
GOOD = {**SETTINGS, "advance": "manual"}


class Parts(nn.Module):
    """Two parts that are dropped in, and a forward to use them."""

    def __init__(self, compute=lambda m, x: m.second(m.first(x))):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 20))
        self.second = nn.Sequential(nn.Linear(20, 48), nn.GELU(), nn.Dropout(P), nn.Linear(48, 20))
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


# ---- revert and the optimizer ----------------------------------------------------------------


def followed(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return optimizer, convert(model, optimizer, **SETTINGS)


def test_a_reverted_model_leaves_the_optimizer_alone():
    model = make("mlp")
    optimizer, schedule = followed(model)
    seen = []
    theirs = optimizer.register_step_post_hook(lambda *_: seen.append(1))
    optimizer.step()
    assert int(schedule.clock.step) == 1
    revert(model)
    optimizer.step()
    assert int(schedule.clock.step) == 1
    assert list(optimizer._optimizer_step_post_hooks) == [theirs.id]
    again = convert(model, optimizer, **SETTINGS)
    optimizer.step()
    assert (int(schedule.clock.step), int(again.clock.step), len(seen)) == (1, 1, 3)


def test_the_hook_stays_for_the_parts_that_stay():
    model = Parts()
    optimizer, schedule = followed(model)
    revert(model.first)
    optimizer.step()
    assert int(schedule.clock.step) == 1
    revert(model.second)
    optimizer.step()
    assert int(schedule.clock.step) == 1
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_reverted_copy_leaves_the_first_one_its_hook(duplicate):
    model = make("mlp")
    optimizer, schedule = followed(model)
    revert(duplicate(model))
    optimizer.step()
    assert int(schedule.clock.step) == 1


def test_models_and_optimizers_are_not_kept_alive():
    model = make("mlp")
    optimizer, schedule = followed(model)
    dead = weakref.ref(model), weakref.ref(optimizer), weakref.ref(schedule.clock)
    del model, optimizer, schedule
    gc.collect()
    assert [ref() for ref in dead] == [None] * 3


def test_an_optimizer_of_another_model_is_refused():
    model, other = make("mlp"), make("mlp")
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    with pytest.raises(ValueError, match="optimizer: expected one that holds parameters of the "
                       r"model, got one of 6 others: make it of model.parameters\(\), or say "
                       'advance="manual"'):  # fmt: skip
        convert(model, optimizer, **SETTINGS)
    assert not optimizer._optimizer_step_post_hooks
    assert repr(model) == repr(make("mlp"))
    convert(model, torch.optim.SGD([model[3].weight], 0.1), **SETTINGS)  # one of them is enough


# ---- models -----------------------------------------------------------------------------------


def refusal(model, **rest):
    with pytest.raises(ValueError, match="found nothing to convert") as error:
        convert(model, **{**GOOD, **rest})
    return str(error.value)


def test_modules_that_drop_otherwise():
    assert refusal(nn.Sequential(nn.Linear(4, 4), nn.AlphaDropout())).endswith(
        "'1': AlphaDropout is no nn.Dropout, which alone is converted"
    )
    assert refusal(nn.GRU(4, 4, 2, dropout=P)).endswith(
        "'the model': GRU drops inside, where there is no module to convert; it keeps its dropout"
    )


def test_a_fan_out_that_is_not_linear():
    """Nothing beside the dropout skips: the reasons say which module is in the way."""
    norm = nn.Sequential(nn.LayerNorm(20), nn.Dropout(P), nn.LayerNorm(20))
    assert refusal(norm).endswith(
        "'1': no nn.Linear beside it can skip what it drops: '0' (LayerNorm) before it is not "
        "element-wise; '2' (LayerNorm) after it is not element-wise; drop next to an nn.Linear, or "
        "say method='gyro' for single neurons"
    )
    convert(norm, **{**GOOD, "method": "gyro"})

    def fan_out(m, x):
        h = m.first[:3](x)
        return m.first[3](h) + torch.softmax(h, -1)[..., :20]

    model = Parts(fan_out)
    report = convert(model, **GOOD).report()
    table = {line.split()[1]: line for line in report.splitlines()[2:4]}
    assert table["'first.2'"].endswith("'first.0'    'first.3'   a pass of its own")
    assert "softmax" not in report  # one reader skips, the other gets zeros


def test_shared_modules():
    drop = nn.Dropout(P)
    model = nn.Sequential(nn.Linear(8, 8), drop, nn.Linear(8, 8), drop)
    with pytest.raises(ValueError, match=r"got one Dropout used 2 times: a mask belongs to one "
                       r"place; copy\.deepcopy makes another module"):  # fmt: skip
        convert(model, **GOOD)
    model[3] = copy.deepcopy(drop)
    assert len(convert(model, **GOOD).sites) == 2


# ---- a converted model ------------------------------------------------------------------------


def test_another_rate_than_the_sites():
    model = make("mlp")
    convert(model, **GOOD)
    model[2].p = P
    with pytest.raises(ValueError, match=r"p: expected 0\.5, the rate of site 0: block, .*, got "
                       r"0\.1: .*; call revert\(model\), set p, and convert again"):  # fmt: skip
        model[2].p = 0.1
    assert model[2].p == P
    alone = BlockDropout(Site(Clock(), 0, 8, 0.25, "block", total_steps=4))
    revert(alone)
    assert (type(alone), alone.p, alone.inplace) == (nn.Dropout, 0.25, False)
    alone.p = 0.5


def test_steps_beyond_the_run_are_said():
    model = make("mlp")
    optimizer, schedule = followed(model)
    schedule.load_state_dict({**schedule.state_dict(), "step": RUN["total_steps"]})
    with pytest.warns(UserWarning, match="step 13: expected at most total_steps=12 .*Convert with"):
        optimizer.step()


def test_states_of_another_schedule():
    schedule = convert(make("mlp"), **GOOD)
    for change, name in (
        ({"seed": 6}, "seed 6 as this schedule has, got 5"),
        ({"p": 0.25}, r"sites .*0\.25.*, got .*0\.5"),
        ({"method": "row"}, "method 'row' as this schedule has, got 'block'"),
        ({"total_steps": 24}, "total_steps 24 as this schedule has, got 12"),
    ):
        other = convert(make("mlp"), **{**GOOD, **change})
        with pytest.raises(ValueError, match=f"state: expected {name}.*; convert with the settings "
                           "of the run that is resumed"):  # fmt: skip
            other.load_state_dict(schedule.state_dict())
        assert int(other.clock.step) == 0


@pytest.mark.parametrize("group", [3, "gloo", [0, 1]])
def test_what_is_no_process_group(group):
    model = make("mlp")
    with pytest.raises(TypeError, match=r"process_group: expected a torch.distributed.Proc.*, got"):
        convert(model, process_group=group, **GOOD)
    assert repr(model) == repr(make("mlp"))


@pytest.mark.parametrize("method", ["block", "row", "gyro"])
@pytest.mark.parametrize(
    ("batch_dim", "shape"), [(5, (8, 20)), (5, (2, 8, 20)), (2, (2, 8, 20)), (2, (8, 20))]
)
def test_inputs_of_too_few_dimensions(method, batch_dim, shape):
    model = make("mlp")
    convert(model, batch_dim=batch_dim, **{**GOOD, "method": method})
    with pytest.raises(ValueError, match=f"input: expected {batch_dim + 2} dimensions at least, as "
                       f"batch_dim={batch_dim} counts samples, got shape"):  # fmt: skip
        model(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(("coscheduled", "side"), [(1, "'0'"), (2, "-")])
def test_single_neurons_have_an_output_side_where_a_batch_has_one_subnet(coscheduled, side):
    model = make("mlp")
    schedule = convert(model, **{**GOOD, "method": "gyro", "coscheduled": coscheduled})
    row = schedule.report().splitlines()[2].split("  ")
    assert [cell.strip() for cell in row if cell.strip()][6] == side
