"""PyTorch's transformer layers: trained with masks, evaluated by its fused path, and given back."""

import copy

import pytest
import torch
from torch import nn

from dropgemm.torch import Linear, convert, revert
from networks import RUN, TILE, P, site_mask

SETTINGS = {"method": "block", "advance": "manual", **RUN, **TILE}


def make(kind, **rest):
    torch.manual_seed(0)
    return kind(16, 2, 48, P, "gelu", batch_first=True, **rest)


def encoder(**rest):
    layer = make(nn.TransformerEncoderLayer)
    return nn.TransformerEncoder(layer, 2, **rest)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_evaluation_takes_the_fused_path(nested, padded):
    """Past the modules: with and without nested tensors, the bits of the unconverted model."""
    model = encoder(enable_nested_tensor=nested).double()
    plain = copy.deepcopy(model).eval()
    convert(model, **SETTINGS)
    model.eval()
    x = torch.randn(5, 7, 16, dtype=torch.float64)
    padding = torch.arange(7) >= torch.tensor([7, 3, 1, 5, 7])[:, None] if padded else None
    calls = []
    hook = torch.nn.modules.module.register_module_forward_hook(lambda m, *_: calls.append(type(m)))
    try:
        with torch.no_grad():
            got = model(x, src_key_padding_mask=padding)
    finally:
        hook.remove()
    with torch.no_grad():
        expected = plain(x, src_key_padding_mask=padding)
    assert torch.equal(got, expected)
    assert Linear not in calls  # or this path would not be the fused one
    with torch.enable_grad():
        slow = model(x, src_key_padding_mask=padding)
    assert torch.equal(slow, plain(x, src_key_padding_mask=padding))


class Masked(nn.Module):
    """A dropout by an explicit mask, of the site that a converted one has."""

    def __init__(self, site):
        super().__init__()
        self.site = site

    def forward(self, x):
        return torch.where(site_mask(self.site, 0, x), x * self.site.scale, 0.0)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_layer_equals_the_same_masks_run_densely(norm_first):
    layer = make(nn.TransformerDecoderLayer, norm_first=norm_first).double()
    layer.self_attn.dropout = layer.multihead_attn.dropout = 0.0
    layer.dropout1.p = layer.dropout2.p = 0.0
    dense = copy.deepcopy(layer)
    first, second = convert(layer, **SETTINGS).sites
    assert (layer.dropout.site, layer.dropout3.site) == (first, second)
    assert layer.linear2.in_site is first
    assert layer.linear2.out_site is second
    dense.dropout, dense.dropout3 = Masked(first), Masked(second)
    x, memory = (torch.randn(6, length, 16, dtype=torch.float64) for length in (4, 5))
    got, expected = layer(x, memory), dense(x, memory)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(got)
    for ours, theirs in zip(
        torch.autograd.grad((got * weights).sum(), list(layer.parameters())),
        torch.autograd.grad((expected * weights).sum(), list(dense.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def whole():
    torch.manual_seed(0)
    return nn.Transformer(16, 2, 1, 2, 48, P, batch_first=True)


@pytest.mark.parametrize("build", [encoder, whole])
def test_whole_models_are_given_back(build):
    model = build()
    before = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = convert(model, optimizer, **{**SETTINGS, "advance": "optimizer"})
    inputs = [torch.randn(5, 7, 16)] * (1 if build is encoder else 2)
    model(*inputs).square().sum().backward()
    optimizer.step()
    assert int(schedule.clock.step) == 1
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    revert(model)
    assert repr(model) == repr(before)
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert all(torch.equal(trained[name], value) for name, value in model.state_dict().items())
    before.load_state_dict(trained)
    results = []
    for each in (model, before):
        torch.manual_seed(1)  # of nn.Dropout
        results.append(each(*inputs))
    assert torch.equal(*results)
