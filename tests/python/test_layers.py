"""The parts, put together by hand; traced and transformed; what layers and convert refuse."""

import pytest
import torch
from torch import nn

import dropgemm as dg
from dropgemm.torch import (
    BernoulliDropout,
    BlockDropout,
    Clock,
    GyroDropout,
    Linear,
    RowDropout,
    Site,
    convert,
)
from networks import METHODS, RUN, TILE, P, gradients, make, run_dense

KINDS = {
    "block": BlockDropout,
    "gyro": GyroDropout,
    "bernoulli": BernoulliDropout,
    "row": RowDropout,
}


def site(method="block", features=48, **rest):
    return Site(Clock(), 3, features, P, method, **{**RUN, **TILE, **rest})


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("method", KINDS)
def test_a_network_built_by_hand(method, folded):
    place = site(method, folded=folded)
    dropout = KINDS[method](place)
    model = nn.Sequential(
        Linear(20, 48, out_site=place), nn.ReLU(), dropout, Linear(48, 3, in_site=place)
    ).double()
    x = torch.randn(40, 20, dtype=torch.float64, requires_grad=True)
    got, expected = model(x), run_dense(model, 0, x)
    torch.testing.assert_close(got, expected)
    for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
        torch.testing.assert_close(*pair)
    assert f"site 3: {method}" in repr(model)
    assert "in_site=3" in repr(model)


def test_a_site_without_a_dropout_drops_while_the_layer_trains():
    layer = Linear(48, 5, in_site=site()).double()
    x = torch.randn(40, 48, dtype=torch.float64)
    keep = layer.in_site.mask(40).to_dense()
    torch.testing.assert_close(layer(x), layer.eval()(torch.where(keep, x, 0.0)))
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("shape", [(48,), (16, 48), (3, 4, 48), (0, 48)])
def test_dropout_modules_alone(method, shape):
    dropout = KINDS[method](site(method, seed=1))
    scale = dropout.site.scale
    x = torch.full(shape, torch.inf, requires_grad=True)
    y = dropout(x)
    kept = y == torch.inf
    assert torch.equal(y, torch.where(kept, torch.inf, 0.0))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, torch.where(kept, scale, 0.0))
    assert scale == 2.0 or method == "row"
    if x.numel():
        assert 0 < kept.sum() < x.numel()
    assert dropout.eval()(x) is x
    assert dropout.p == P


def test_element_wise_dropout_takes_its_width_from_the_input():
    dropout = GyroDropout(site("gyro", None))
    for shape in ((8, 3, 5, 5), (8, 16)):
        x = torch.ones(shape)
        y = dropout(x)
        schedule = dg.GyroSchedule(x[0].numel(), P, site=3, **RUN)
        keep = schedule.mask(0, 8, like=x).to_dense().view(shape)
        assert torch.equal(y, torch.where(keep, 2.0, 0.0))


def test_positions_of_a_sample_share_its_subnet():
    dropout = BlockDropout(site("block", tile_rows=16))
    y = dropout(torch.ones(12, 5, 48))
    assert (y == y[:, :1]).all()
    groups = y[:, 0].unflatten(0, (3, 4))  # ceil(16 / 5) = 4 samples a group
    assert (groups == groups[:, :1]).all()


@pytest.mark.parametrize("shape", [(20,), (1, 20), (0, 20), (3, 0, 20), (2, 3, 4, 20)])
def test_inputs_of_any_rank(shape):
    model = make("mlp")
    convert(model, method="block", advance="manual", **RUN, **TILE)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = model(x)
    assert y.shape == (*shape[:-1], 3)
    gradients(y, model, x)


@pytest.mark.parametrize("method", METHODS)
def test_compiled_models_compute_the_same(method):
    model = make("mlp", dtype=torch.float32)
    schedule = convert(model, method=method, advance="manual", **RUN, **TILE)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(40, 20, requires_grad=True)
    for _ in range(4):
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        got = compiled(x)
        torch.testing.assert_close(got, expected)
        for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
            torch.testing.assert_close(*pair)
        schedule.step()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_torch_func_takes_gradients_and_refuses_forward_mode():
    model = make("mlp")
    convert(model, method="block", advance="manual", **RUN, **TILE)
    x = torch.randn(40, 20, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x).sum(), x)
    torch.testing.assert_close(torch.func.grad(lambda x: model(x).sum())(x.detach()), expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x))
        with pytest.raises(NotImplementedError, match=r"jvp|forward"):
            model(dual)


def test_second_derivatives_of_a_layer_are_refused():
    model = make("mlp")
    convert(model, method="block", advance="manual", **RUN, **TILE)
    x = torch.randn(4, 20, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"a layer that skips .* no second derivatives"):
        gradient.sum().backward()


BAD_INPUTS = {
    "width": (torch.zeros(4, 21), ValueError,
              r"input: expected last dimension 20 \(in_features\), got shape \(4, 21\)"),
    "half": (torch.zeros(4, 20).half(), TypeError,
             "input: expected torch.float32, torch.float64 or torch.bfloat16, got torch.float16"),
    "integer": (torch.zeros(4, 20).long(), TypeError, "input: expected .* got torch.int64"),
    "other dtype": (torch.zeros(4, 20).double(), TypeError,
                    "input: expected torch.float32 as weight, got torch.float64"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_that_cannot_be_served(case):
    x, error, message = BAD_INPUTS[case]
    model = make("mlp", dtype=torch.float32)
    convert(model, method="block", advance="manual", **RUN, **TILE)
    with pytest.raises(error, match=message):
        model(x)


def test_lazy_negatives_are_resolved():
    model = make("mlp")
    convert(model, method="block", advance="manual", **RUN, **TILE)
    lazy = torch.randn(4, 20, dtype=torch.complex128).conj().imag
    assert lazy.is_neg()
    torch.testing.assert_close(model(lazy), model(lazy.clone()))


def test_half_precision_models_say_what_is_taken():
    model = make("mlp", dtype=torch.float32)
    convert(model, method="block", advance="manual", **RUN, **TILE)
    with pytest.raises(
        TypeError, match=r"weight: expected torch.float32, torch.float64 or torch.bfloat16"
    ):
        model.half()(torch.zeros(4, 20))


def test_bad_parts():
    with pytest.raises(ValueError, match=ONE_OF_THEM):
        site("rowwise")
    with pytest.raises(ValueError, match="total_steps: expected the optimizer steps"):
        Site(Clock(), 0, 8, P, "gyro")
    with pytest.raises(ValueError, match=r"features: expected the width of a site of .* 'block'"):
        site("block", None)
    with pytest.raises(TypeError, match="clock: expected a Clock"):
        Site(None, 0, 8, P, "bernoulli")
    with pytest.raises(ValueError, match=r"p: expected a rate in \[0, 1\], got nan"):
        Site(Clock(), 0, 8, float("nan"), "bernoulli")
    with pytest.raises(ValueError, match="scale: expected 'rate' for Bernoulli draws"):
        site("gyro", scale="exact")
    with pytest.raises(ValueError, match="site: expected method 'block' for BlockDropout"):
        BlockDropout(site("gyro"))
    with pytest.raises(ValueError, match="in_site: expected last dimension 48"):
        Linear(20, 3, in_site=site())
    tiles = Site(Clock(), 0, 48, P, "tile", outputs=48, weight_tile=(4, 4))
    for name in ("in_site", "out_site"):
        with pytest.raises(ValueError, match=f"{name}: expected a site of neurons, got .* 'tile'"):
            Linear(48, 48, **{name: tiles})
    with pytest.raises(ValueError, match="input: expected last dimension 48"):
        BlockDropout(site())(torch.zeros(4, 20))


ONE_OF_THEM = "method: expected one of 'block', 'gyro', 'row', 'tile', 'bernoulli'"
GOOD = {"method": "block", "advance": "manual", **RUN, **TILE}
BAD_SETTINGS = [
    ({"method": "rdp"}, ValueError, ONE_OF_THEM),
    ({"sides": "left"}, ValueError, "sides: expected one of 'both', .*'paper', got 'left'"),
    ({"advance": "auto"}, ValueError, "advance: expected one of 'optimizer', 'manual'"),
    ({"advance": "optimizer"}, ValueError,
     'optimizer: expected one whose steps .* or advance="manual"'),
    ({"advance": "optimizer", "optimizer": 3}, TypeError, "optimizer: expected a torch.optim"),
    ({"total_steps": 0}, ValueError, "total_steps: expected an integer in"),
    ({"p": -0.1}, ValueError, r"p: expected a rate in \[0, 1\], got -0.1"),
    ({"p": float("nan")}, ValueError, "p: expected a rate .* got nan"),
    ({"tile_cols": 0}, ValueError, "tile_cols: expected"),
    ({"subnets": 0}, ValueError, "subnets: expected"),
    ({"seed": -1}, ValueError, "seed: expected"),
    ({"scale": "sqrt"}, ValueError, "scale: expected one of 'rate', 'exact'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD_SETTINGS)
def test_convert_refuses_and_leaves_the_model_alone(change, error, message):
    model = make("mlp")
    before = repr(model)
    with pytest.raises(error, match=message):
        convert(model, **{**GOOD, **change})
    assert repr(model) == before


def test_convert_refuses_models_that_it_cannot_serve():
    with pytest.raises(TypeError, match=r"model: expected an nn.Module, got list"):
        convert([], **GOOD)
    with pytest.raises(ValueError, match="nothing to convert"):
        convert(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), **GOOD)
    with pytest.raises(ValueError, match=r"nothing to convert: '1': no nn.Linear beside it"):
        convert(nn.Sequential(nn.ReLU(), nn.Dropout(P), nn.ReLU()), **GOOD)

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(P)

    with pytest.raises(ValueError, match=r"'drop': it is in no nn.Sequential"):
        convert(Custom(), **GOOD)
    drop, linear = nn.Dropout(P), nn.Linear(8, 8)
    with pytest.raises(ValueError, match="of its own at each of '1', '3', got one Dropout used 2"):
        convert(nn.Sequential(nn.Linear(8, 8), drop, nn.Linear(8, 8), drop), **GOOD)
    with pytest.raises(ValueError, match="of its own at each of '0', '2', got one Linear used 2"):
        convert(nn.Sequential(linear, nn.Dropout(P), linear), **GOOD)
    model = make("mlp")
    convert(model, **GOOD)
    with pytest.raises(ValueError, match="not converted yet; call revert"):
        convert(model, **GOOD)


def test_report_says_what_was_done_and_why_not():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.extra = nn.Dropout(0.3)
            self.body = nn.Sequential(nn.Linear(96, 96), nn.Tanh(), nn.Dropout(0.1))

        def forward(self, x):
            return self.extra(self.body(x))

    model = nn.Sequential(nn.Linear(20, 96), nn.ReLU(), nn.Dropout(P), Head())
    report = convert(model, **{**GOOD, "tile_cols": 32}).report()
    assert "block: 2 of 3 dropouts, 12 steps, 4 subnets, 2 at a time" in report
    table = [line.split("  ") for line in report.splitlines()[1:4]]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in table]
    assert rows[0][:6] == ["site", "dropout", "method", "p", "features", "keeps"]
    assert rows[1] == ["0", "'2'", "block", "0.5", "96", "2 of 3 tiles", "'0'",
                       "'3.body.0'", "in '3.body.0', ReLU '1' in both products"]  # fmt: skip
    assert rows[2][1:7] == ["'3.body.2'", "block", "0.1", "96", "3 of 3 tiles", "'3.body.0'"]
    assert "warning: site 1 keeps 1.000 of its features, where p=0.1 asks for 0.900" in report
    assert "tile_cols=8 would keep 0.917" in report
    assert "not converted: '3.extra': no nn.Linear beside it can skip what it drops" in report
    assert [s.id for s in (model[2].site, model[3].body[2].site)] == [0, 1]
