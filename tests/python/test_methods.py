"""Row and tile patterns in layers, methods by name, and the papers' own ways of working."""

import pytest
import torch
from torch import nn

import dropgemm as dg
from dropgemm.torch import (
    BernoulliDropout,
    BlockDropout,
    Clock,
    Linear,
    RowDropout,
    Site,
    TileDropLinear,
    TileDropout,
    convert,
    revert,
)
from networks import RUN, TILE, P, gradients, make, pattern, run_dense

GOOD = {"advance": "manual", "search": "sgd", **RUN, **TILE}


def kept_neurons(model, index):
    """Which outputs of Dropout `index` are not always zero, for positive inputs."""
    x = torch.rand(64, 20, dtype=torch.float64) + 1.0
    return model[: index + 1](x).ne(0).any(0)


@pytest.mark.parametrize("method", ["row", "tile"])
def test_patterns_change_with_step_and_call_and_with_nothing_else(method):
    model = make("mlp")
    schedule = convert(model, method=method, **GOOD)
    x = torch.randn(16, 20, dtype=torch.float64)
    seen = []
    for _ in range(4):
        first = model(x)
        assert torch.equal(model(x), first)
        with schedule.call(1):
            other = model(x)
            assert torch.equal(model(x), other)
        assert torch.equal(model(x), first)
        seen += [first, other]
        schedule.step()
    distinct = {tuple(y.flatten().tolist()) for y in seen}
    assert len(distinct) >= 5  # of 8; equal where pattern and offset are
    assert int(schedule.clock.step) == 4
    assert schedule.clock.call == 0


def test_calls_draw_what_the_functional_api_draws():
    model = make("mlp")
    schedule = convert(model, method="row", **GOOD)
    site = model[2].site
    x = torch.empty(5, 48, dtype=torch.float64)
    for call in range(3):
        with schedule.call(call):
            mask, scale = site.draw(5)
        keep, expected = pattern(site, 0, 5, 48, x, call=call)
        assert torch.equal(mask.to_dense(), keep)
        assert scale == expected
    with pytest.raises(ValueError, match="index: expected an integer"), schedule.call(-1):
        pass


def test_rows_share_one_pattern_and_scaling_is_by_the_period():
    dropout = RowDropout(Site(Clock(), 3, 48, P, "row", seed=1, search="sgd"))
    for step in range(6):
        dropout.clock.step.fill_(step)
        y = dropout(torch.ones(7, 5, 48))
        kept = y[0, 0].nonzero().flatten()
        assert torch.equal(y, y[:1, :1].expand_as(y))
        period = float(dropout.site.scale)
        assert y[0, 0, kept].eq(period).all()
        assert kept.diff().eq(period).all()
    fixed = RowDropout(Site(Clock(), 3, 48, P, "row", seed=1, scale="rate"))
    assert fixed(torch.ones(2, 48)).max() == 2.0


@pytest.mark.parametrize("scale", ["rate", "exact"])
@pytest.mark.parametrize("method", ["row", "tile"])
def test_sampled_training_is_unbiased_in_the_mean(method, scale):
    """The mean over steps of a linear model's output is the model without dropout."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Dropout(P), nn.Linear(64, 8, bias=False)).double()
    plain = model[1](torch.ones(1, 64, dtype=torch.float64)).detach()
    schedule = convert(model, method=method, scale=scale, weight_tile=(1, 8), **GOOD)
    samples = []
    with torch.no_grad():
        for _ in range(4000):
            samples.append(model(torch.ones(1, 64, dtype=torch.float64)))
            schedule.step()
    outputs = torch.cat(samples)
    # Five standard errors of each of 8 outputs; "rate" is unbiased as the marginals are p.
    error = outputs.std(0) / len(outputs) ** 0.5
    expected = plain * (1.0 if scale == "exact" else model[0].site.keep_rate / (1 - P))
    assert ((outputs.mean(0) - expected).abs() < 5 * error + 1e-9).all()


def test_a_tile_drop_linear_by_hand():
    site = Site(Clock(), 4, 64, P, "tile", outputs=48, weight_tile=(8, 8), seed=1, search="sgd")
    layer = TileDropLinear(64, 48, weight_site=site).double()
    x = torch.randn(10, 64, dtype=torch.float64, requires_grad=True)
    keep, scale = pattern_of(site, layer)
    got = layer(x)
    dense = nn.functional.linear(x, torch.where(keep, layer.weight * scale, 0.0), layer.bias)
    torch.testing.assert_close(got, dense, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(got, layer, x), gradients(dense, layer, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    whole = TileDropLinear(64, 48, weight_site=site, prune_weight_grad=False).double()
    whole.load_state_dict(layer.state_dict())
    assert not whole.prune_weight_grad
    pairs = zip(gradients(whole(x), whole, x), gradients(layer(x), layer, x), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        layer.weight[~keep] = torch.nan
    assert layer(x).isfinite().all()
    assert "weight_site=4" in repr(layer)
    plain = layer.eval()
    torch.testing.assert_close(plain(x).isnan().any(), torch.tensor(True))
    with pytest.raises(ValueError, match=r"weight_site: expected method 'tile', features 64, "
                       r"outputs 32, got 'tile', 64, 48"):  # fmt: skip
        TileDropLinear(64, 32, weight_site=site)
    with pytest.raises(TypeError, match="weight_site: expected a Site, got NoneType"):
        TileDropLinear(64, 32, weight_site=None)


def pattern_of(site, layer):
    mask, scale = dg.search_distribution(P, features=6).mask(
        1, site.id, 0, *layer.weight.shape, like=layer.weight, tile=(8, 8)
    )
    return mask.to_dense(), float(scale)


def test_a_replaced_consumer_of_tiles_is_noticed():
    model = make("mlp")
    convert(model, method="tile", **GOOD)
    model[3] = nn.Linear(48, 40, dtype=torch.float64)
    x = torch.randn(4, 20, dtype=torch.float64)
    model(x)
    with pytest.raises(RuntimeError, match="mask and scale: expected the Linear behind"):
        model(x)


# --- Methods by name ------------------------------------------------------------------------------


def test_each_dropout_may_have_a_method_of_its_own():
    def network():
        torch.manual_seed(3)
        layers = [nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P)]
        for _ in range(3):
            layers += [nn.Linear(48, 48), nn.ReLU(), nn.Dropout(P)]
        return nn.Sequential(*layers, nn.Linear(48, 3)).double()

    model = network()
    methods = {"2": "row", "5": "tile", "8": None, "*": "block"}
    schedule = convert(model, method=methods, **GOOD)
    kinds = [type(model[i]) for i in (2, 5, 8, 11)]
    assert kinds == [RowDropout, TileDropout, nn.Dropout, BlockDropout]
    assert [type(model[i]) for i in (3, 6, 9, 12)] == [Linear, TileDropLinear, Linear, Linear]
    assert "row, tile, block: 3 of 4 dropouts" in schedule.report()
    assert "not converted: '8': method names none for it" in schedule.report()
    model[8].eval()
    x = torch.randn(40, 20, dtype=torch.float64, requires_grad=True)
    got, expected = model(x), run_dense_with_plain(model, x)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-12)
    schedule.load_state_dict(schedule.state_dict())
    revert(model)
    assert repr(model) == repr(network())


def run_dense_with_plain(model, x):
    front = run_dense(model[:8], 0, x)
    return run_dense(model[9:], 0, front)


def test_a_tile_layer_may_also_skip_what_a_later_dropout_drops():
    model = nn.Sequential(
        nn.Linear(20, 48), nn.Dropout(P), nn.Linear(48, 40), nn.ReLU(), nn.Dropout(P),
        nn.Linear(40, 3),
    ).double()  # fmt: skip
    convert(model, method={"1": "tile", "4": "block"}, **GOOD)
    assert type(model[2]) is TileDropLinear
    assert model[2].out_site is model[4].site
    x = torch.randn(40, 20, dtype=torch.float64, requires_grad=True)
    got, expected = model(x), run_dense(model, 0, x)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for pair in zip(gradients(got, model, x), gradients(expected, model, x), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-12)


BAD = [
    ({"method": {"7": "row"}}, ValueError, r"method: expected patterns that match .*\('2', '5'\)"),
    ({"method": {"*": "row", "2": "tile"}}, ValueError, "before any other does, got '2'"),
    ({"method": {"2": "rows"}}, ValueError, r"method\['2'\]: expected one of 'block'"),
    ({"method": {2: "row"}}, TypeError, "method: expected names of dropouts as keys, got 2"),
    ({"method": {"*": None}}, ValueError, "nothing to convert: '2': method names none"),
    ({"method": "tile", "sides": "input"}, ValueError,
     "sides: expected 'both' for tile patterns, .* got 'input'"),
    ({"method": "row", "max_period": 1}, ValueError, r"'2': max_period: expected at least 2"),
    ({"method": "row", "p": 0.99}, ValueError, "'2': features: expected at least 100, .* got 48"),
    ({"method": "tile", "p": 0.9}, ValueError, "'5': features: expected at least 10, .* got 3"),
    ({"method": "row", "max_period": 0}, ValueError, "max_period: expected an integer in"),
    ({"method": "tile", "skew": 2}, ValueError, "skew: expected"),
    ({"method": "tile", "skew": "diagonal"}, ValueError, "skew: expected an integer or 'linear'"),
    ({"method": "tile", "weight_tile": (0, 8)}, ValueError, "weight_tile: expected"),
    ({"method": "tile", "weight_tile": 8}, TypeError, "weight_tile: expected a pair"),
    ({"method": "row", "search": "adam"}, ValueError, "search: expected one of 'sgd', 'exact'"),
    ({"method": "gyro", "order": "any"}, ValueError, "order: expected one of 'consecutive'"),
    ({"method": "gyro", "draw": "any"}, ValueError, "draw: expected one of 'exact'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_what_does_not_fit_is_refused_and_changes_nothing(change, error, message):
    model = make("mlp")
    before = repr(model)
    with pytest.raises(error, match=message):
        convert(model, **{**GOOD, **change})
    assert repr(model) == before


# --- Variants of gyro, and the papers to the letter -----------------------------------------------


@pytest.mark.parametrize("order", ["consecutive", "random"])
@pytest.mark.parametrize("draw", ["exact", "bernoulli"])
@pytest.mark.parametrize("method", ["block", "gyro"])
def test_orders_and_draws(method, draw, order):
    model = make("mlp")
    schedule = convert(model, method=method, order=order, draw=draw, **GOOD)
    x = torch.randn(32, 20, dtype=torch.float64)
    site = model[2].site
    tile = TILE if method == "block" else {}
    same = dg.GyroSchedule(48, P, site=site.id, **RUN, **tile, order=order, draw=draw)
    for step in range(3):
        mask = same.mask(step, 32, like=x)
        assert site.mask(32).equals(mask)
        assert site.scale == same.scale()
        kept = mask.to_dense().sum(1)
        if draw == "exact":
            assert kept.eq(24).all()
        schedule.step()
    assert model(x).isfinite().all()
    state = schedule.state_dict()
    other = convert(make("mlp"), method=method, order=order, **GOOD)
    if draw != {"block": "exact", "gyro": "bernoulli"}[method]:
        with pytest.raises(ValueError, match="state: expected draw None"):
            other.load_state_dict(state)


@pytest.mark.parametrize("shape", [(128, 16), (128, 64), (128, 128), (1024, 64), (24, 5)])
def test_any_shape_of_block(shape):
    rows, cols = shape
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Dropout(P), nn.Linear(256, 3)).double()
    convert(model, method="block", advance="manual", **RUN, tile_rows=rows, tile_cols=cols)
    site = model[2].site
    mask = site.mask(300)
    assert mask.tile == shape
    keep = mask.to_dense()
    x = torch.randn(300, 20, dtype=torch.float64)
    hidden = torch.relu(nn.functional.linear(x, model[0].weight, model[0].bias))
    expected = nn.functional.linear(
        torch.where(keep, hidden * site.scale, 0.0), model[3].weight, model[3].bias
    )
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_the_paper_prunes_outputs_of_the_first_layer_and_inputs_of_the_others():
    model = nn.Sequential(
        nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 40), nn.ReLU(), nn.Dropout(P),
        nn.Linear(40, 3),
    ).double()  # fmt: skip
    convert(model, method="block", sides="paper", prune_weight_grad=False, **GOOD)
    layers = [model[i] for i in (0, 3, 6)]
    assert [layer.out_site is not None for layer in layers] == [True, False, False]
    assert [layer.in_site is not None for layer in layers] == [False, True, True]
    assert not any(layer.prune_weight_grad for layer in layers)


@pytest.mark.parametrize("method", ["block", "row", "tile", "gyro"])
def test_unpruned_weight_gradients_are_the_same(method):
    def run(**change):
        model = make("mlp")
        convert(model, method=method, **GOOD, **change)
        x = torch.randn(48, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        return gradients(model(x.requires_grad_()), model, x)

    for ours, theirs in zip(run(prune_weight_grad=False), run(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_conventional_rates_have_32_bits():
    """Eight bits would make 0 or 1/256 of one in a thousand."""
    p = 0.001
    dropout = BernoulliDropout(Site(Clock(), 0, None, p, "bernoulli"))
    torch.manual_seed(0)
    dropped = dropout(torch.ones(1, 1 << 20)).eq(0).double().mean()
    assert abs(dropped - p) < 6 * (p * (1 - p) / (1 << 20)) ** 0.5 < p / 4


def test_layers_draw_from_the_narrow_distribution_by_default():
    model = make("mlp")
    schedule = convert(model, method="row", advance="manual", p=0.7, **RUN)
    distribution = model[2].site.draws.distribution
    assert distribution == dg.search_distribution(0.7, method="narrow")
    assert "1 in 3..4 neurons, 0.300 in the mean" in schedule.report()
    scales = set()
    for _ in range(12):
        scales.add(model[2].site.scale)
        schedule.step()
    assert scales == {3.0, 4.0}


def test_the_report_is_a_table():
    model = make("mlp")
    lines = convert(model, method="row", **GOOD).report().splitlines()
    assert lines[0] == "row: 2 of 2 dropouts, 12 steps, sides both, seed 5"
    columns = [lines[1].index(name) for name in ("site", "dropout", "keeps", "output side")]
    expected = ("0", "'2'", "1 in 1..8", "'0'"), ("1", "'5'", "1 in 1..8", "'3'")
    for line, cells in zip(lines[2:4], expected, strict=True):
        for column, cell in zip(columns, cells, strict=True):
            assert line[column:].startswith(cell)
    assert kept_neurons(model, 2).any()


@pytest.mark.parametrize(
    ("outputs", "features", "idle"),
    [
        (512, 512, ""),
        (32, 512, "forward"),  # tiles of 16 x 32
        (512, 32, "input gradient, weight gradient"),  # of 32 x 16
        (10, 512, "forward, input gradient, weight gradient"),  # of 5 x 32
    ],
)
def test_the_report_says_where_tiles_skip_nothing(outputs, features, idle):
    model = nn.Sequential(nn.Dropout(P), nn.Linear(features, outputs))
    report = convert(model, method="tile", advance="manual", **RUN).report()
    assert ("nothing is skipped" in report) == bool(idle)
    assert (
        not idle or f"of a weight of {outputs} x {features} nothing is skipped in {idle};" in report
    )


def test_the_report_warns_where_a_linear_skew_drops_inputs():
    model = nn.Sequential(nn.Dropout(P), nn.Linear(512, 512), nn.Dropout(P), nn.Linear(480, 512))
    options = {"method": "tile", "advance": "manual", **RUN}
    warning = "warning: site 0: skew='linear': 16 tile columns are a multiple of period 2:"
    report = convert(model, skew="linear", **options).report()
    assert warning in report
    assert "site 1: skew" not in report  # 15 columns
    revert(model)
    assert "skew" not in convert(model, **options).report()
