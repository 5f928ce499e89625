"""ensemble: subnets evaluated together are the same masks run one after the other."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import dropgemm as dg
import dropgemm.torch.members as members_module
from dense import bernoulli_tiles, exact_tiles
from dropgemm.torch import (
    LSTM,
    BernoulliDropout,
    Clock,
    Linear,
    Site,
    convert,
    ensemble,
    revert,
)
from forwards import FOUND, Convolutional, Net
from networks import METHODS, NETWORKS, P, make

SEED, SUBNETS, STEPS, COLS = 5, 40, 12, 8
SETTINGS = {
    "total_steps": STEPS, "seed": SEED, "subnets": SUBNETS, "tile_rows": 16, "tile_cols": COLS,
    "weight_tile": (4, 4), "search": "sgd", "advance": "manual",
}  # fmt: skip
NUMBERS = [3, 0, 11, 3, 7]  # of subnets, and of steps


class Masked(nn.Module):
    """A dropout with the mask and the scale of one subnet, the same for every sample."""

    def __init__(self, keep, scale):
        super().__init__()
        self.keep, self.scale = keep, scale

    def forward(self, x):
        return torch.where(self.keep.view(x.shape[-self.keep.dim() :]), x * self.scale, 0.0)


def mask_of(site, subnet, width):
    """The kept neurons of a subnet and their scale, as the papers have it."""
    if site.method == "block":
        tiles = exact_tiles(P, SEED, site.id, subnet, -(-width // COLS))
        keep = torch.from_numpy(tiles).repeat_interleave(COLS)[:width]
        return keep, len(tiles) / tiles.sum()
    if site.method == "gyro":
        return torch.from_numpy(bernoulli_tiles(P, SEED, site.id, subnet, 0, 1, width)[0]), 1 / P
    found = dg.search_distribution(P, features=width)
    mask, scale = found.mask(SEED, site.id, subnet, 1, width)
    return torch.from_numpy(mask.to_dense()[0]), float(scale)


def passes(plain, model, inputs, widths):
    """Each subnet's pass: the model as it was, with masks in place of its dropouts."""
    results = []
    for subnet in NUMBERS:
        masked = copy.deepcopy(plain).eval()
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout) and hasattr(module, "site"):
                keep, scale = mask_of(module.site, subnet, widths[name])
                masked.set_submodule(name, Masked(keep, scale))
        results.append(masked(inputs))
    return torch.stack(results)


def widths_of(plain, inputs):
    """The width of each dropout's input."""
    seen = {}
    plain = copy.deepcopy(plain).eval()
    for name, module in plain.named_modules():
        if type(module) is nn.Dropout:
            module.register_forward_hook(lambda _, args, y, name=name: seen.update({name: y.shape}))
    plain(inputs)
    return {name: shape[-1] for name, shape in seen.items()}


def models():
    chains = {name: (lambda name=name: make(name), (20,)) for name in NETWORKS}
    return chains | {
        "residual": (lambda: Net(FOUND["residual"][0]), (20,)),
        "read twice": (lambda: Net(FOUND["read twice"][0]), (20,)),
        "residual of residuals": (
            lambda: nn.Sequential(*(Net(FOUND["residual"][0]) for _ in range(3))), (20,)),
        "flattened": (lambda: Convolutional(nn.Flatten()), (1, 8, 8)),
    }  # fmt: skip


@pytest.mark.parametrize("method", ["block", "gyro", "row"])
@pytest.mark.parametrize("name", models())
def test_equals_separate_masked_passes(backend, name, method):
    build, shape = models()[name]
    torch.manual_seed(0)
    model = build().double()
    plain = copy.deepcopy(model)
    convert(
        model, method={"early": None, "*": method} if name == "flattened" else method, **SETTINGS
    )
    together, apart = (ensemble(model, NUMBERS, batched=batched) for batched in (True, False))
    for batch in (16, 13, 1):
        x = torch.randn(batch, *shape, dtype=torch.float64)
        expected = passes(plain, model, x, widths_of(plain, x))
        torch.testing.assert_close(together(x).members, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(apart(x).members, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch_dim", [0, 1])
@pytest.mark.parametrize("method", ["block", "gyro", "row", "tile"])
def test_positions_of_a_sample(method, batch_dim):
    model = make("mlp")
    convert(model, method=method, batch_dim=batch_dim, **SETTINGS)
    together, apart = (ensemble(model, 7, batched=batched) for batched in (True, False))
    for shape in ((8, 6, 20), (3, 5, 20), (2, 8, 3, 20), (16, 20), (20,)):
        x = torch.randn(shape, dtype=torch.float64)
        got, expected = together(x).members, apart(x).members
        assert got.shape == (7, *shape[:-1], 3)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        assert not torch.equal(got[0], got[3])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("method", ["block", "gyro", "row"])
def test_transformer_layers(method, norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 48, P, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double()
    sites = convert(model, method=method, **SETTINGS).sites
    assert len(sites) == (6 if method == "gyro" else 4)
    x = torch.randn(8, 4, 16, dtype=torch.float64)
    assert torch.backends.mha.get_fastpath_enabled()
    found = ensemble(model, NUMBERS)(x)
    assert torch.backends.mha.get_fastpath_enabled()
    apart = ensemble(model, NUMBERS, batched=False)(x)
    torch.testing.assert_close(found.members, apart.members, rtol=1e-12, atol=1e-12)
    assert found.variance.min() > 0


class Language(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.before = nn.Dropout(P)
        self.lstm = nn.LSTM(16, 24, 2, dropout=P, batch_first=batch_first)
        self.after = nn.Dropout(P)
        self.decoder = nn.Linear(24, 5)

    def forward(self, x, state=None):
        return self.decoder(self.after(self.lstm(self.before(x), state)[0]))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("method", ["block", "gyro", "row", "tile"])
def test_recurrent_layers(method, batch_first):
    torch.manual_seed(0)
    model = Language(batch_first).double()
    convert(model, method=method, batch_dim=0 if batch_first else 1, **SETTINGS)
    together, apart = (ensemble(model, NUMBERS, batched=batched) for batched in (True, False))
    state = torch.randn(2, 2, 8, 24, dtype=torch.float64).unbind()
    x = torch.randn(*((8, 4) if batch_first else (4, 8)), 16, dtype=torch.float64)
    for arguments in ((x,), (x, state)):
        found = together(*arguments).members
        torch.testing.assert_close(found, apart(*arguments).members, rtol=1e-12, atol=1e-12)
        assert not torch.equal(found[0], found[1])
    if method != "gyro":  # whose masks behind the LSTM are of all elements of a sample
        torch.testing.assert_close(together(x[0]).members, apart(x[0]).members)


def test_packed_sequences_are_taken_in_turn():
    class Packed(Language):
        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, [4, 2])
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0]

    model = Packed(False)
    convert(model, method={"lstm": "row"}, **SETTINGS)
    x = torch.randn(4, 2, 16)
    with pytest.raises(
        TypeError, match=r"input: expected a tensor, got PackedSequence.*batched=Fa"
    ):
        ensemble(model, 3)(x)
    assert ensemble(model, 3, batched=False)(x).members.shape == (3, 4, 2, 24)


def test_bernoulli_draws_for_each_subnet_and_sample():
    site = Site(Clock(), 0, 64, P, "bernoulli", total_steps=1)
    model = nn.Sequential(BernoulliDropout(site))
    for batched in (True, False):
        members = ensemble(model, 8, batched=batched)(torch.ones(32, 64)).members
        assert members.unique().tolist() == [0.0, 2.0]
        assert len(members.view(-1, 64).unique(dim=0)) == 8 * 32
        # 16384 bits: their mean is within 5 standard deviations, of 0.5 / 128 each.
        assert abs(members.mean() / 2 - P) < 5 * 0.5 / 128
    torch.manual_seed(0)
    first = ensemble(model, 8)(torch.ones(32, 64)).members
    torch.manual_seed(0)
    assert torch.equal(ensemble(model, 8)(torch.ones(32, 64)).members, first)


def test_what_is_the_same_for_all_is_computed_once(monkeypatch):
    class Products(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.rows = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
                self.rows.append(args[-2].shape[0])
            return func(*args, **(kwargs or {}))

    model = nn.Sequential(
        nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 8)
    )
    convert(model, method="block", **SETTINGS)
    together = ensemble(model, 4)
    with Products() as seen:
        together(torch.randn(16, 20))
    assert seen.rows == [16]  # of what is not converted

    calls = []
    core = members_module.matmul
    monkeypatch.setattr(
        members_module, "matmul", lambda x, *rest: calls.append(x.shape) or core(x, *rest)
    )
    together(torch.randn(16, 20))
    assert calls == [(16, 32)]  # and the last one for each subnet


# ---- beside training --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_training_goes_on_undisturbed(method):
    model, twin = make("mlp"), make("mlp")
    schedules = [convert(each, method=method, **SETTINGS) for each in (model, twin)]
    for schedule in schedules:
        schedule.step()
    x = torch.randn(16, 20, dtype=torch.float64)
    together = ensemble(model, 4)
    before = together(x).members
    schedules[0].clock.warned = schedules[1].clock.warned = True  # of subnets left unused
    torch.manual_seed(1)
    trained = model(x)
    torch.manual_seed(1)
    assert torch.equal(trained, twin(x))
    assert [module.training for module in model.modules()] == [True] * len(list(model.modules()))
    assert int(schedules[0].clock.step) == 1
    with torch.no_grad():
        model[6].weight.mul_(2)
        model[6].bias.mul_(2)
    if method != "bernoulli":
        torch.testing.assert_close(together(x).members, 2 * before)
    assert {id(p) for p in together.model.parameters()} == {id(p) for p in model.parameters()}
    revert(model)  # which leaves the ensemble what it is
    assert together(x).members.shape == before.shape
    assert not together(x).members.requires_grad


def test_forwards_that_store_values():
    class Stores(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("mlp")

        def forward(self, x):
            self.last = self.body[:3](x)
            return self.body[3:](self.last)

    model = Stores()
    convert(model, method="gyro", **SETTINGS)
    x = torch.randn(8, 20, dtype=torch.float64)
    model(x)
    last = model.last
    together, apart = (ensemble(model, 4, batched=batched)(x).members for batched in (True, False))
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    assert model.last is last


def test_autocast():
    model = make("mlp", dtype=torch.float32)
    convert(model, method="block", **SETTINGS)
    x = torch.randn(16, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ensemble(model, 4)(x)
        apart = ensemble(model, 4, batched=False)(x)
    torch.testing.assert_close(found.members, apart.members)
    assert found.members.dtype == torch.bfloat16


def test_only_converted_dropouts_drop():
    model = nn.Sequential(
        nn.AlphaDropout(P), nn.BatchNorm1d(20), nn.Linear(20, 48), nn.Dropout(P), nn.Linear(48, 3)
    )
    statistics = copy.deepcopy(dict(model.named_buffers()))
    convert(model, method="block", **SETTINGS)
    together = ensemble(model, [4, 4])
    members = together(torch.randn(16, 20)).members
    assert torch.equal(members[0], members[1])
    assert all(torch.equal(statistics[n], b) for n, b in model.named_buffers() if n in statistics)


@pytest.mark.parametrize("method", ["block", "row", "gyro"])
def test_layers_by_hand(method):
    """Sites without a dropout module, on either side."""
    clock = Clock()
    first, second = (Site(clock, n, 48, P, method, total_steps=STEPS) for n in range(2))
    model = nn.Sequential(
        Linear(20, 48, out_site=first), nn.Tanh(), Linear(48, 48, in_site=first, out_site=second)
    ).double()
    x = torch.randn(16, 20, dtype=torch.float64)
    together, apart = (ensemble(model, 5, batched=batched)(x).members for batched in (True, False))
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    assert (together == 0).double().mean() > (0.0 if method == "gyro" else 0.3)
    lstm = LSTM(20, 48, in_sites=[None], out_site=second, dropout=0.0).double()

    class Output(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = lstm

        def forward(self, x):
            return self.lstm(x)[0]

    second.settings.__dict__["batch_dim"] = 1
    found = [ensemble(Output(), 5, batched=b)(x[None]).members for b in (True, False)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
