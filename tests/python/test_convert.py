"""convert: a converted model equals the same masks run densely, and stays the model it was."""

import copy
import pickle

import pytest
import torch
from torch import nn

from dropgemm.torch import (
    BernoulliDropout,
    BlockDropout,
    GyroDropout,
    Linear,
    RowDropout,
    TileDropout,
    convert,
    revert,
)
from dropgemm.torch.relu import ReLU
from networks import (
    METHODS,
    NETWORKS,
    RUN,
    TILE,
    P,
    gradients,
    make,
    run_dense,
    site_mask,
)

SIDES = ("both", "input", "output", "paper")


def convertible(name, method, sides):
    missing = {"inputs": "output", "outputs": "input", "norm between": "output",
               "dropout first, then sigmoid": "input"}  # fmt: skip
    if method == "tile":  # needs a Linear that alone reads what is dropped
        return sides == "both" and not name.startswith(("dropout first", "outputs"))
    return method not in ("block", "row") or missing.get(name) != sides


def converted(name, method="block", sides="both", **rest):
    model = make(name, **{k: rest.pop(k) for k in ("dtype", "seed") if k in rest})
    settings = {"method": method, "sides": sides, "advance": "manual", "search": "sgd"}
    settings |= {**RUN, **TILE, **rest}
    return model, convert(model, **settings)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_same_masks_run_densely(backend, name, method, sides):
    if not convertible(name, method, sides):
        with pytest.raises(ValueError, match=r"found nothing to convert|tile patterns, .*no sides"):
            converted(name, method, sides)
        return
    model, schedule = converted(name, method, sides)
    for shape in ((40, 20), (33, 20), (1, 20), (6, 5, 20)):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for _ in range(3):
            step = int(schedule.clock.step)
            got = model(x)
            expected = run_dense(model, step, x)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
            for ours, theirs in zip(gradients(got, model, x), gradients(expected, model, x),
                                    strict=True):  # fmt: skip
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
            schedule.step()


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mlp", "not zero at zero", "dropout first, then relu"])
def test_gradcheck(name, method, sides):
    if not convertible(name, method, sides):
        pytest.skip("refused, as another test shows")
    model, _ = converted(name, method, sides)
    names = [name for name, _ in model.named_parameters()]
    x = torch.randn(18, 20, dtype=torch.float64, requires_grad=True)

    def run(x, *parameters):
        torch.manual_seed(0)  # of the key that "bernoulli" draws
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    parameters = [p.detach().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize(
    ("method", "sides"),
    [(kind, sides) for kind in METHODS for sides in SIDES if kind != "tile" or sides == "both"],
)
def test_every_activation_between_two_layers(method, sides, activation):
    torch.manual_seed(0)
    layers = nn.Linear(20, 48), activation(), nn.Dropout(P), nn.Linear(48, 3)
    model = nn.Sequential(*layers).double()
    options = {"advance": "manual", "search": "sgd", **RUN, **TILE}
    convert(model, method=method, sides=sides, **options)
    x = torch.randn(18, 20, dtype=torch.float64, requires_grad=True)
    got = model(x)
    expected = run_dense(model, 0, x)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-12)

    def run(x):
        torch.manual_seed(0)  # of the key that "bernoulli" draws
        return model(x)

    assert torch.autograd.gradcheck(run, (x,), fast_mode=True)


@pytest.mark.parametrize("method", METHODS)
def test_float32_models_train_alike(method):
    model, _ = converted("mlp", method, dtype=torch.float32)
    x = torch.randn(40, 20, requires_grad=True)
    got = model(x)
    expected = run_dense(model, 0, x)
    torch.testing.assert_close(got, expected)
    for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
        torch.testing.assert_close(*pair)


def test_nan_in_what_is_dropped_reaches_nothing():
    """NaN weights of neurons that every row drops: results finite, their gradients exactly 0."""
    model, schedule = converted("mlp", tile_rows=64)  # one row group
    x = torch.randn(40, 20, dtype=torch.float64, requires_grad=True)
    clean = model(x)
    clean_gradients = gradients(clean, model, x)
    first, second = (site_mask(s, 0, torch.empty(40, s.features))[0] for s in schedule.sites)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        parameters["0.weight"][~first] = torch.nan
        parameters["0.bias"][~first] = torch.nan
        parameters["3.weight"][:, ~first] = torch.nan
        parameters["3.weight"][~second] = torch.inf
        parameters["3.bias"][~second] = torch.nan
        parameters["6.weight"][:, ~second] = torch.nan
    dirty = model(x)
    torch.testing.assert_close(dirty, clean, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(dirty, model, x), clean_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_of_zero_and_one(method, rate):
    model, _ = converted("mlp", method, p=rate, tile_cols=8)
    x = torch.randn(9, 20, dtype=torch.float64, requires_grad=True)
    got = model(x)
    if rate == 0.0:
        assert torch.equal(got, make("mlp").eval()(x))
    else:
        torch.testing.assert_close(got, model[6].bias.expand(9, 3))
        dx, *others = gradients(got, model, x)
        assert not dx.any()
        assert all(torch.isfinite(gradient).all() for gradient in others)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_is_plain_to_the_bit(name, method):
    if not convertible(name, method, "both"):
        pytest.skip("refused, as another test shows")
    model, _ = converted(name, method, dtype=torch.float32)
    plain = make(name, dtype=torch.float32).eval()
    x = torch.randn(2, 7, 20)
    assert torch.equal(model.eval()(x), plain(x))


def test_the_model_stays_the_same_model():
    model = make("mlp")
    before = dict(model.named_parameters())
    keys, modules = list(model.state_dict()), list(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    convert(model, optimizer, method="block", total_steps=12, subnets=4, coscheduled=2, **TILE)
    assert list(model.state_dict()) == keys
    assert list(model) == modules
    assert all(isinstance(m, (nn.Linear, nn.Dropout, nn.ReLU, nn.GELU)) for m in model)
    assert [type(m) for m in model][2:4] == [BlockDropout, Linear]
    assert {name: id(p) for name, p in model.named_parameters()} == {
        name: id(p) for name, p in before.items()
    }
    model.load_state_dict(make("mlp", seed=3).state_dict())


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("block", BlockDropout),
        ("gyro", GyroDropout),
        ("bernoulli", BernoulliDropout),
        ("row", RowDropout),
        ("tile", TileDropout),
    ],
)
def test_revert(method, kind):
    model, _ = converted("mlp", method, p=0.25)
    modules = list(model)
    assert isinstance(model[2], kind)
    revert(model)
    assert list(model) == modules
    assert [type(m) for m in model] == [type(m) for m in make("mlp")]
    assert model[2].p == P
    assert repr(model) == repr(make("mlp"))
    x = torch.randn(8, 20, dtype=torch.float64)
    plain = make("mlp")
    torch.manual_seed(1)
    got = model(x)
    torch.manual_seed(1)
    assert torch.equal(got, plain(x))
    with pytest.raises(ValueError, match="model: expected a converted one"):
        revert(model)
    convert(model, method=method, advance="manual", **RUN)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_a_clock_of_their_own(duplicate, method):
    model, schedule = converted("mlp", method)
    x = torch.randn(20, 20, dtype=torch.float64)
    model(x)
    twin = duplicate(model)
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    assert torch.equal(twin(x), expected)
    reader = twin[3].weight_site if method == "tile" else twin[3].in_site
    assert twin[2].clock is twin[5].clock is reader.clock
    assert twin[2].site is reader
    assert twin[2].site.owner is twin[2]
    schedule.step()
    assert int(twin[2].clock.step) == 0
    twin.eval()
    assert model.training
    assert not torch.equal(twin(x), model(x))


def test_moves_keep_the_clock():
    model, schedule = converted("mlp")
    schedule.step()
    model.to(torch.float32).half().double()
    assert model[2].clock.step.dtype == torch.int64
    assert int(model[5].clock.step) == 1
    assert schedule.clock is model[2].clock
    model.to_empty(device="cpu")
    schedule.clock.reset_parameters()
    assert int(model[2].clock.step) == 0


def test_dropout_mode_is_the_dropout_modules_own():
    """Freezing dropouts, or Monte-Carlo dropout, is said to the dropout modules alone."""
    model, _ = converted("mlp")
    x = torch.randn(20, 20, dtype=torch.float64)
    plain = make("mlp").eval()(x)
    for module in model:
        if isinstance(module, nn.Dropout):
            module.eval()
    assert torch.equal(model(x), plain)
    model.eval()
    for module in model:
        if isinstance(module, nn.Dropout):
            module.train()
    torch.testing.assert_close(model(x), run_dense(model, 0, x))


def test_layers_that_something_looks_at_are_left_alone():
    def hooked(index):
        model = make("mlp")
        seen = []
        model[index].register_forward_hook(lambda module, args, output: seen.append(output))
        schedule = convert(model, method="block", advance="manual", **RUN, **TILE)
        x = torch.randn(20, 20, dtype=torch.float64)
        torch.testing.assert_close(model(x), run_dense(model, 0, x))
        return model, schedule, seen[0]

    model, schedule, seen = hooked(1)
    assert model[0].__class__ is nn.Linear
    assert "before it has hooks" in schedule.report()
    assert seen.ne(0).float().mean() > 0.4  # ReLU alone made zeros
    model, schedule, _ = hooked(3)
    assert type(model[3]) is nn.Linear
    assert not model[2].site.folded
    model = make("mlp")
    model[2].register_forward_hook(lambda *_: None)
    schedule = convert(model, method="block", advance="manual", **RUN, **TILE)
    assert "not converted: '2': it has hooks" in schedule.report()


def test_relu_is_folded_where_both_products_can_carry_it():
    model, schedule = converted("mlp")
    assert type(model[1]) is ReLU
    assert "ReLU '1' in both products" in schedule.report()
    negative = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    model.eval()
    assert model[1](negative).tolist() == [0.0, 2.0]
    revert(model)
    assert type(model[1]) is nn.ReLU
    for name, sides in (("mlp", "input"), ("mlp", "output"), ("norm between", "input")):
        model, schedule = converted(name, sides=sides)
        assert not any(isinstance(module, ReLU) for module in model)
        assert "ReLU" not in schedule.report()


def test_a_folded_relu_under_functorch_has_the_same_gradients():
    model, _ = converted("mlp")
    x = torch.randn(40, 20, dtype=torch.float64, requires_grad=True)
    weights = dict(model.named_parameters())

    def loss(weights):
        return torch.func.functional_call(model, weights, (x.detach(),)).square().sum()

    traced = torch.func.grad(loss)(weights)
    eager = torch.autograd.grad(model(x).square().sum(), list(weights.values()))
    for name, gradient in zip(weights, eager, strict=True):
        torch.testing.assert_close(traced[name], gradient, rtol=1e-12, atol=1e-12)


def test_a_replaced_neighbour_is_noticed():
    x = torch.randn(40, 20, dtype=torch.float64)
    model, _ = converted("mlp")
    model[3] = nn.Linear(48, 40, dtype=torch.float64)
    model(x)
    with pytest.raises(RuntimeError, match="mask and scale: expected the Linear behind"):
        model(x)
    model, _ = converted("mlp")
    model[1] = nn.GELU()
    model(x)
    with pytest.raises(RuntimeError, match="the ReLU: expected the ReLU before the dropout"):
        model(x)
    # A plain producer rectifies nothing, so the ReLU does.
    model, _ = converted("mlp")
    plain = nn.Linear(20, 48, dtype=torch.float64)
    plain.load_state_dict(model[0].state_dict())
    expected = run_dense(model, 0, x)
    model[0] = plain
    torch.testing.assert_close(model(x), expected)


def test_a_part_of_a_model_that_runs_alone_is_noticed():
    """The Linear before a dropout has dropped already; nothing behind it scales."""
    x = torch.randn(40, 20, dtype=torch.float64)
    model, _ = converted("mlp")
    model[:2](x)
    with pytest.raises(RuntimeError, match="dropped outputs: expected the dropout behind"):
        model(x)
    torch.testing.assert_close(model(x), run_dense(model, 0, x))
    model[:4](x)  # two hand-overs are open; one error says so, and closes both
    with pytest.raises(RuntimeError, match="run after the last training forward"):
        model(x)
    torch.testing.assert_close(model(x), run_dense(model, 0, x))


def test_what_is_no_module_or_site_is_refused_by_name():
    with pytest.raises(TypeError, match=r"model: expected an nn\.Module, got int"):
        revert(3)
    with pytest.raises(TypeError, match="site: expected a Site, got float"):
        BlockDropout(0.5)
    with pytest.raises(TypeError, match="in_site: expected a Site, got int"):
        Linear(4, 4, in_site=3)
    model, _ = converted("mlp")
    with pytest.raises(TypeError, match=r"input: expected a torch.Tensor, got ndarray"):
        model(torch.ones(4, 20, dtype=torch.float64).numpy())
