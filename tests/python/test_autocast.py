"""Converted models in bfloat16: under torch.autocast, and of parameters in bfloat16."""

import pytest
import torch
from torch import nn

import dropgemm as dg
from bounded import Bounded
from dropgemm.torch import TileDropLinear, TileDropout, convert
from networks import METHODS, RUN, TILE, P, gradients, pattern, run_dense, site_mask


def autocast(dtype=torch.bfloat16):
    return torch.autocast("cpu", dtype=dtype)


def converted(method):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 48), nn.Tanh(), nn.Dropout(P), nn.Linear(48, 40), nn.Tanh(), nn.Dropout(P),
        nn.Linear(40, 3),
    )  # fmt: skip
    convert(model, method=method, advance="manual", search="sgd", **RUN, **TILE)
    return model, torch.randn(64, 20, requires_grad=True)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(20, 48, num_layers=2, dropout=P, batch_first=True)
        self.drop = nn.Dropout(P)
        self.out = nn.Linear(48, 3)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.out(self.drop(y))


def weights_of(module, x):
    """A layer's weight as it is multiplied, and what its gradient is multiplied by."""
    factor = torch.ones(())
    if isinstance(module, TileDropLinear):
        keep, scale = pattern(module.weight_site, 0, *module.weight.shape, x)
        factor = keep * scale
    return (Bounded(module.weight) * factor.double()).rounded(), factor.double()


def bounded_run(model, x, dy):
    """The output for x and every gradient for dy, each with its bound: written out, as bfloat16
    stores every result of a layer."""
    tape, h = [], Bounded(x)
    for module in model:
        if isinstance(module, nn.Linear):
            h, (weight, factor) = h.rounded(), weights_of(module, x)
            tape.append((module, h, weight, factor))
            h = (h @ weight.T + Bounded(module.bias).rounded()).rounded()
        elif isinstance(module, nn.Tanh):
            h = h.tanh().rounded()
            tape.append((module, h))
        elif isinstance(module, nn.Dropout) and not isinstance(module, TileDropout):
            site, like = module.site, h.value.float()
            scale = pattern(site, 0, 1, like.shape[1], like)[1] if site.method == "row" else 0
            factor = site_mask(site, 0, like).double() * (scale or site.scale)
            h = (h * factor).rounded()
            tape.append((module, factor))
    output, grads, d = h, [], Bounded(dy).rounded()
    for module, *saved in reversed(tape):
        if isinstance(module, nn.Linear):
            below, weight, factor = saved
            grads = [((d.T @ below).rounded() * factor).rounded(), d.sum().rounded(), *grads]
            d = (d @ weight).rounded()
        elif isinstance(module, nn.Tanh):
            (above,) = saved
            d = (d * above.tanh_slope()).rounded()
        else:
            d = (d * saved[0]).rounded()
    return [output, d, *grads]


@pytest.mark.parametrize("method", METHODS)
def test_a_converted_model_is_the_masked_dense_run(method):
    model, x = converted(method)
    with autocast():
        got, dense = model(x), run_dense(model, 0, x)
    assert got.dtype == dense.dtype == torch.bfloat16
    dy = torch.linspace(-1.0, 1.0, got.numel(), dtype=torch.bfloat16).view(got.shape)
    expected = bounded_run(model, x, dy)
    for y in (got, dense):
        results = torch.autograd.grad(y, [x, *model.parameters()], dy)
        assert {result.dtype for result in results} == {torch.float32}
        for bound, result in zip(expected, [y, *results], strict=True):
            bound.assert_holds(result)


@pytest.mark.parametrize("method", METHODS)
def test_compiled_it_has_the_same_bits(method):
    model, x = converted(method)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    results = []
    for run in (model, compiled):
        torch.manual_seed(3)
        with autocast():
            y = run(x)
        results.append([y, *gradients(y, model, x)])
    for eager, traced in zip(*results, strict=True):
        assert eager.dtype == traced.dtype
        assert torch.equal(eager, traced)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_in_bfloat16_give_the_bits_of_autocast(method):
    model, x = converted(method)
    torch.manual_seed(3)
    with autocast():
        expected = model(x)
    expected = [expected, *gradients(expected, model, x)]
    model = model.bfloat16()
    x = x.detach().bfloat16().requires_grad_()
    torch.manual_seed(3)
    got = model(x)
    for pair in zip([got, *gradients(got, model, x)], expected, strict=True):
        assert torch.equal(pair[0], pair[1].bfloat16())


@pytest.mark.parametrize("method", ["block", "gyro", "row"])
def test_an_lstm_takes_and_gives_bfloat16(method):
    torch.manual_seed(0)
    model = Recurrent()
    convert(model, method=method, advance="manual", **RUN, **TILE)
    x = torch.randn(32, 7, 20)
    with autocast():
        assert nn.LSTM(20, 48)(x)[0].dtype == torch.bfloat16  # as PyTorch's own does
        got = model(x)
        assert torch.equal(model(x.bfloat16()), got)
    assert got.dtype == torch.bfloat16
    got.sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_layers_that_skip_nothing_are_cast_alike():
    model, x = converted("block")
    with autocast():
        y = model.eval()(x)
    assert y.dtype == torch.bfloat16
    assert model(x).dtype == torch.float32


def test_float64_stays_as_it_is():
    model, x = converted("block")
    with autocast():
        assert model.double()(x.double()).dtype == torch.float64


def test_the_functional_product_is_cast_as_torchs_own():
    a, b, bias = torch.randn(8, 16), torch.randn(16, 4), torch.randn(4)
    out = torch.empty(8, 4)
    with autocast():
        y = dg.matmul(a, b, bias=bias)
        dg.matmul(a, b, bias=bias, out=out)
    assert torch.equal(y, dg.matmul(a.bfloat16(), b.bfloat16(), bias=bias.bfloat16()))
    assert torch.equal(out, dg.matmul(a, b, bias=bias))


def test_float16_is_refused_by_name():
    model, x = converted("block")
    expected = "expected torch.float32, torch.float64 or torch.bfloat16, got torch.float16"
    with autocast(torch.float16), pytest.raises(TypeError, match=f"input: {expected}"):
        model(x)
    with pytest.raises(TypeError, match=f"a: {expected}"):
        dg.matmul(x.half(), x.half(), trans_b=True)
