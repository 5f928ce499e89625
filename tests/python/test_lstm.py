"""LSTM against nn.LSTM's equations with explicit dense masks, in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import dropgemm as dg
from dropgemm.torch import LSTM, BlockDropout, Clock, Linear, RowDropout, Site, convert, revert
from networks import RUN, P, pattern

IN, HIDDEN = 20, 24  # several tiles of 8, so that groups differ
SAMPLES = 6  # a group of block-wise dropout: 12 rows, of 3 steps 4 samples
TILE = {"tile_rows": 12, "tile_cols": 8, "weight_tile": (5, 8), "max_period": 3}
METHODS = ["block", "row", "gyro", "bernoulli", "tile"]


def site(clock, number, method="row", features=HIDDEN, **rest):
    if method == "tile":
        rest["outputs"] = HIDDEN
    return Site(clock, number, features, P, method, **RUN, **TILE, **rest)


def keep(place, batch, length, x):
    """The mask [batch, features] of a site and its scale, through the functional API alone."""
    features = place.features
    if place.method == "row":
        mask, scale = place.draws.distribution.mask(
            RUN["seed"], place.id, int(place.clock.step), batch, features, like=x
        )
        return mask.to_dense(), float(scale)
    if place.method == "bernoulli":
        mask = dg.bernoulli_mask(batch, features, P, seed=place.draws.key, site=place.id, like=x)
        return mask.to_dense(), 1 / (1 - P)
    tile = {}
    if place.method == "block":
        tile = {"tile_rows": -(-TILE["tile_rows"] // length), "tile_cols": TILE["tile_cols"]}
    schedule = dg.GyroSchedule(features, P, site=place.id, **RUN, **tile)
    return schedule.mask(int(place.clock.step), batch, like=x).to_dense(), schedule.scale()


def dense(lstm, x, h0, c0, lengths=None):
    """The same by nn.LSTM's equations, step by step: x [length, batch, inputs], as nn.LSTM's."""
    length, batch, _ = x.shape
    drawn = {}

    def masked(place, value):
        if place is None:
            return value
        if place not in drawn:
            drawn[place] = keep(place, batch, length, x)
        mask, scale = drawn[place]
        return torch.where(mask, value * scale, 0.0)

    h_n, c_n = [], []
    for layer in range(lstm.num_layers):
        w_ih, w_hh = (getattr(lstm, f"weight_{k}_l{layer}") for k in ("ih", "hh"))
        bias = sum(getattr(lstm, f"bias_{k}_l{layer}") for k in ("ih", "hh")) if lstm.bias else 0.0
        place, back = lstm.in_sites[layer], lstm.recurrent_sites[layer]
        if place is not None and place.method == "tile":
            tiles, scale = pattern(place, int(place.clock.step), HIDDEN, place.features, x)
            w_ih = torch.where(tiles.repeat(4, 1), w_ih * scale, 0.0)
        else:
            x = masked(place, x)
        behind = (*lstm.in_sites[1:], lstm.out_site)[layer]
        h, c, outputs = h0[layer], c0[layer], []
        for t in range(length):
            i, f, g, o = (x[t] @ w_ih.T + masked(back, h) @ w_hh.T + bias).chunk(4, 1)
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new_h = o.sigmoid() * new_c.tanh()
            if back is not None and back is behind:  # dropped units keep their state
                new_h, new_c = (
                    torch.where(drawn[back][0], new, old) for new, old in ((new_h, h), (new_c, c))
                )
            if lengths is not None:
                going = (t < lengths)[:, None]
                new_h, new_c = torch.where(going, new_h, h), torch.where(going, new_c, c)
            h, c = new_h, new_c
            outputs.append(h if lengths is None else torch.where(going, h, 0.0))
        h_n.append(h)
        c_n.append(c)
        x = torch.stack(outputs)
    return masked(lstm.out_site, x), torch.stack(h_n), torch.stack(c_n)


def gradients(results, inputs):
    """d(a weighted sum of all results) / d(inputs)."""
    total = 0.0
    for result in results:
        weights = torch.linspace(-1.0, 1.0, result.numel(), dtype=result.dtype)
        total = total + (result * weights.view(result.shape)).sum()
    return torch.autograd.grad(total, inputs)


def compare(lstm, length=3, batch=SAMPLES, seed=0):
    """Outputs, last states and all gradients."""
    torch.manual_seed(seed)
    x = torch.randn(length, batch, lstm.input_size, dtype=torch.float64, requires_grad=True)
    state = [
        torch.randn(lstm.num_layers, batch, lstm.hidden_size, dtype=torch.float64) for _ in range(2)
    ]
    inputs = [x, *(s.requires_grad_() for s in state), *lstm.parameters()]
    given = x.transpose(0, 1) if lstm.batch_first else x
    y, last = lstm(given, tuple(state))
    got = [y.transpose(0, 1) if lstm.batch_first else y, *last]
    expected = dense(lstm, x, *state)
    for pair in zip(got, expected, strict=True):
        torch.testing.assert_close(*pair)
    for pair in zip(gradients(got, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(*pair)


def make(method, back=None, layers=2, **rest):
    """Dropped inputs and outputs; back: None, "own" (masks of their own) or "units"."""
    clock = Clock()
    in_sites = [site(clock, n, method, HIDDEN if n else IN) for n in range(layers)]
    hidden = "row" if method == "tile" else method
    out_site = site(clock, layers, hidden)
    recurrent = {
        None: [],
        "own": [site(clock, 10 + n, hidden) for n in range(layers)],
        "units": [*(in_sites[1:] if method != "tile" else [None]), out_site],
    }[back]
    rest = {"batch_first": True} | rest
    return LSTM(
        IN, HIDDEN, layers, in_sites=in_sites, out_site=out_site, recurrent_sites=recurrent, **rest
    ).double()


@pytest.mark.parametrize("back", [None, "own", "units"])
@pytest.mark.parametrize("method", METHODS)
def test_results_and_gradients_are_those_of_dense_masks(method, back):
    compare(make(method, back))


@pytest.mark.parametrize("method", ["row", "block", "gyro"])
@pytest.mark.parametrize(
    ("layers", "rest", "shape"),
    [
        (1, {"bias": False}, (5, 3)),
        (3, {}, (2, 7)),
        (2, {}, (1, 1)),
    ],
)
def test_layers_biases_and_shapes(method, layers, rest, shape):
    for back in (None, "own", "units"):
        compare(make(method, back, layers, **rest), *shape)


def test_time_first_batches_have_the_same_masks():
    # Groups of several samples over the rows of steps: masked, and not skipped.
    for method, back in (("row", "units"), ("gyro", "own"), ("tile", None)):
        compare(make(method, back, batch_first=False))
    lstm = make("block", "own", batch_first=False)
    lstm.out_site = None
    compare(lstm)


@pytest.mark.parametrize("back", [None, "own", "units"])
@pytest.mark.parametrize("method", METHODS)
def test_packed_sequences(method, back):
    lstm = make(method, back)
    lengths = torch.tensor([2, 4, 4, 1, 3, 2])
    x = torch.randn(4, len(lengths), IN, dtype=torch.float64)
    state = [torch.randn(2, len(lengths), HIDDEN, dtype=torch.float64) for _ in range(2)]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, last = lstm(packed, tuple(state))
    assert isinstance(y, PackedSequence)
    # Masks are of samples in the order of their lengths, as the packed ones are.
    order = packed.sorted_indices
    expected = dense(lstm, x[:, order], *(s[:, order] for s in state), lengths[order])
    got = [pad_packed_sequence(y)[0][:, order], *(part[:, order] for part in last)]
    for pair in zip(got, expected, strict=True):
        torch.testing.assert_close(*pair)
    parameters = list(lstm.parameters())
    for pair in zip(gradients(got, parameters), gradients(expected, parameters), strict=True):
        torch.testing.assert_close(*pair)


def test_unbatched_sequences_and_no_state():
    lstm = make("row", "own")
    x = torch.randn(5, IN, dtype=torch.float64)
    y, (h, c) = lstm(x)
    batched, (h_b, c_b) = lstm(x[None], (torch.zeros(2, 1, HIDDEN).double(),) * 2)
    assert y.shape == (5, HIDDEN)
    assert h.shape == c.shape == (2, HIDDEN)
    assert torch.equal(y, batched[0])
    assert torch.equal(h, h_b[:, 0])
    assert torch.equal(c, c_b[:, 0])


def test_evaluation_and_rate_0_are_nn_lstm_to_the_bit():
    lstm = make("block", "units").float()
    plain = nn.LSTM(IN, HIDDEN, 2, batch_first=True)
    plain.load_state_dict(lstm.state_dict())
    x = torch.randn(SAMPLES, 4, IN)
    expected, (h, c) = plain(x)
    for place in (lstm.eval(), LSTM(IN, HIDDEN, 2, batch_first=True)):
        place.load_state_dict(plain.state_dict())
        y, (h_n, c_n) = place(x)
        assert torch.equal(y, expected)
        assert torch.equal(h_n, h)
        assert torch.equal(c_n, c)
    assert list(lstm.state_dict()) == list(plain.state_dict())
    clock = Clock()
    rate_0 = Site(clock, 0, HIDDEN, 0.0, "row")
    still = LSTM(IN, HIDDEN, 2, batch_first=True, dropout=P, in_sites=[None, rate_0])
    still.load_state_dict(plain.state_dict())
    torch.testing.assert_close(still(x)[0], expected)


def test_what_keeps_everything_is_nn_lstm():
    """The products and the backward of its own against nn.LSTM's."""
    torch.manual_seed(1)
    few = Site(Clock(), 0, HIDDEN, 0.01, "block", **RUN, **TILE)  # which rounds to none
    assert few.keep_rate == 1.0
    lstm = LSTM(IN, HIDDEN, 2, batch_first=True, out_site=few, recurrent_sites=[None, few])
    lstm.double()
    plain = nn.LSTM(IN, HIDDEN, 2, batch_first=True).double()
    plain.load_state_dict(lstm.state_dict())
    x = torch.randn(3, 5, IN, dtype=torch.float64, requires_grad=True)
    results = []
    for module in (lstm, plain):
        y, last = module(x)
        results.append([y, *last, *gradients([y, *last], [x, *module.parameters()])])
    for pair in zip(*results, strict=True):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("back", [None, "own", "units"])
def test_bfloat16(back):
    """Rounded to 8 bits at each step, as nn.LSTM's is."""
    lstm = make("row", back)
    x = torch.randn(SAMPLES, 3, IN).bfloat16()
    expected = lstm(x.double())[0]
    y = lstm.bfloat16()(x)[0]
    y.sum().backward()
    assert y.dtype == lstm.weight_hh_l1.grad.dtype == torch.bfloat16
    # |h| < 1, twice as much scaled: a rounding of each of 6 steps of 2 layers, and of the weights.
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2 * 12 * 2.0**-8)


@pytest.mark.parametrize("method", ["row", "block"])
def test_dropped_elements_reach_nothing(method):
    lstm = make(method, "own", layers=1)
    x = torch.randn(SAMPLES, 3, IN, dtype=torch.float64)
    y, _ = lstm(x)
    mask, _ = keep(lstm.in_sites[0], SAMPLES, 3, x)
    assert torch.equal(lstm(torch.where(mask[:, None], x, torch.nan))[0], y)
    back, _ = keep(lstm.recurrent_sites[0], SAMPLES, 3, x)
    nobody = ~back.any(0)
    assert nobody.any() or method == "block"
    with torch.no_grad():
        lstm.weight_hh_l0[:, nobody] = torch.nan
    assert torch.equal(lstm(x)[0], y)


def test_masks_are_the_steps_and_the_calls():
    lstm = make("row", layers=1)
    x = torch.ones(SAMPLES, 4, IN, dtype=torch.float64)
    y, _ = lstm(x)
    dropped = y == 0.0
    assert torch.equal(dropped, dropped[:1, :1].expand_as(dropped))  # over samples and time
    assert torch.equal(lstm(x)[0], y)
    seen = set()
    for _ in range(8):
        lstm.clock.advance()
        seen.add(tuple((lstm(x)[0] == 0.0)[0, 0].tolist()))
    assert len(seen) > 1


@pytest.mark.parametrize("method", ["row", "block", "bernoulli"])
def test_a_recomputed_forward_has_the_same_masks(method):
    lstm = make(method, "units")
    x = torch.randn(SAMPLES, 3, IN, dtype=torch.float64, requires_grad=True)
    found = []
    for recomputed in (False, True):
        torch.manual_seed(3)
        y = (
            torch.utils.checkpoint.checkpoint(lambda x: lstm(x)[0], x, use_reentrant=False)
            if recomputed
            else lstm(x)[0]
        )
        found.append([y, *gradients([y], [x, *lstm.parameters()])])
    for pair in zip(*found, strict=True):
        assert torch.equal(*pair)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("method", ["row", "block"])
def test_a_decoder_that_skips_what_the_lstm_dropped(method, folded, batch_first):
    clock = Clock()
    place = site(clock, 1, method, folded=folded, batch_dim=0 if batch_first else 1)
    lstm = LSTM(IN, HIDDEN, batch_first=batch_first, out_site=place).double()
    decoder = Linear(HIDDEN, 11, in_site=place).double()
    x = torch.randn(3, SAMPLES, IN, dtype=torch.float64)
    state = torch.zeros(1, SAMPLES, HIDDEN, dtype=torch.float64)
    got = decoder(lstm(x.transpose(0, 1) if batch_first else x)[0])
    parameters = [*lstm.parameters(), *decoder.parameters()]
    y, _, _ = dense(lstm, x, state, state)
    y = y.transpose(0, 1) if batch_first else y
    expected = nn.functional.linear(y, decoder.weight, decoder.bias)
    torch.testing.assert_close(got, expected)
    for pair in zip(gradients([got], parameters), gradients([expected], parameters), strict=True):
        torch.testing.assert_close(*pair)


def test_a_dropout_module_before_it_is_folded():
    clock = Clock()
    place = site(clock, 0, "block", IN, folded=True)
    model = nn.Sequential(BlockDropout(place), LSTM(IN, HIDDEN, in_sites=[place])).double()
    x = torch.randn(3, SAMPLES, IN, dtype=torch.float64)
    state = torch.zeros(1, SAMPLES, HIDDEN, dtype=torch.float64)
    torch.testing.assert_close(model(x)[0], dense(model[1], x, state, state)[0])
    model[0](x)
    with pytest.raises(RuntimeError, match="mask and scale: expected the Linear behind"):
        model[0](x)


class Words(nn.Module):
    """A language model, as one writes it."""

    def __init__(self, **rest):
        super().__init__()
        self.embedding = nn.Embedding(30, HIDDEN)
        self.before = nn.Dropout(P)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, 2, dropout=P, **rest)
        self.after = nn.Dropout(P)
        self.decoder = nn.Linear(HIDDEN, 30)

    def forward(self, words, state=None):
        y, state = self.lstm(self.before(self.embedding(words)), state)
        return self.decoder(self.after(y)), state


@pytest.mark.parametrize("method", ["row", "block", "gyro", "tile"])
def test_convert_and_revert(method):
    torch.manual_seed(0)
    model = Words(batch_first=True).double()
    before, names = copy.deepcopy(model.state_dict()), list(model.state_dict())
    schedule = convert(
        model, method=method, advance="manual", **RUN, tile_rows=12, tile_cols=8, weight_tile=(5, 8)
    )
    assert "3 of 3 dropouts" in schedule.report()
    assert type(model.lstm) is LSTM
    assert list(model.state_dict()) == names
    first, second, after = schedule.sites
    assert model.lstm.in_sites == (first, second)
    words = torch.randint(30, (SAMPLES, 3))
    state = torch.zeros(2, SAMPLES, HIDDEN, dtype=torch.float64)
    got, _ = model(words)
    # Of "gyro" the module behind has a mask of all elements of a sample; its inputs are enough.
    y, h, c = dense(model.lstm, model.embedding(words).transpose(0, 1), state, state)
    seen, last = model.lstm(model.before(model.embedding(words)))
    torch.testing.assert_close([seen.transpose(0, 1), *last], [y, h, c])
    got.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert after.method == method
    copied = copy.deepcopy(model)
    assert copied.lstm.clock is copied.after.clock
    assert torch.equal(copied(words)[0], model(words)[0]) or method == "bernoulli"

    model.eval()
    evaluated = model(words)[0]
    revert(model)
    assert type(model.lstm) is nn.LSTM
    assert not {"in_sites", "out_site", "recurrent_sites"} & vars(model.lstm).keys()
    assert torch.equal(model(words)[0], evaluated)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    convert(model, method=method, total_steps=10, advance="manual")


def test_what_convert_leaves():
    def left(model, **rest):
        rest = {"method": "row", "total_steps": 10, "advance": "manual"} | rest
        report = convert(model, **rest).report()
        return [line for line in report.splitlines() if line.startswith("not converted")]

    assert left(Words(), method="bernoulli") == [
        "not converted: 'lstm': conventional dropout between its layers is that of nn.LSTM"
    ]
    assert left(Words(), sides="output", method="gyro") == [
        "not converted: 'lstm': it drops between its layers, which are inputs (sides=\"output\")"
    ]
    assert left(Words(), method={"lstm": None, "*": "row"}) == [
        "not converted: 'lstm': method names none for it"
    ]
    projected = Words()
    projected.lstm = nn.LSTM(HIDDEN, 2 * HIDDEN, 2, dropout=P, proj_size=HIDDEN)
    assert left(projected)[0].endswith("proj_size: expected 0, as units are dropped and no "
                                       "projections, got 24")  # fmt: skip
    alone = nn.LSTM(IN, HIDDEN, 3, dropout=P)
    assert left(alone) == []
    assert alone.in_sites[0] is None
    compare(alone.double())


def test_a_dropout_that_others_read_does_not_fold_into_an_lstm():
    class Twice(Words):
        def forward(self, words):
            x = self.before(self.embedding(words))
            return self.decoder(self.after(self.lstm(x)[0] + x))

    model = Twice()
    report = convert(model, method="row", total_steps=10, advance="manual").report()
    assert "'lstm' (LSTM) after it is not all that reads its result" in report
    assert model.lstm.in_sites[0] is None
    assert model(torch.randint(30, (3, SAMPLES))).shape == (3, SAMPLES, 30)


def test_compiled_around_it():
    torch._dynamo.reset()
    lstm = make("row", "own")
    model = nn.Sequential(nn.Linear(IN, IN), lstm).double()
    x = torch.randn(SAMPLES, 3, IN, dtype=torch.float64)
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        expected = model(x)
        got = compiled(x)
        torch.testing.assert_close(got[0], expected[0])
        torch.testing.assert_close(
            gradients([got[0]], list(model.parameters())),
            gradients([expected[0]], list(model.parameters())),
        )
        lstm.clock.advance()


def test_repr_and_copies():
    lstm = make("row", "own")
    assert "in_sites=(0, 1), recurrent_sites=(10, 11), out_site=2" in repr(lstm)
    copied = copy.deepcopy(lstm)
    assert copied.out_site.clock is copied.clock is not lstm.clock
    x = torch.randn(SAMPLES, 3, IN, dtype=torch.float64)
    assert torch.equal(copied(x)[0], lstm(x)[0])


BAD = {
    "bidirectional: expected False": lambda c: LSTM(4, 8, bidirectional=True),
    "proj_size: expected 0": lambda c: LSTM(4, 8, proj_size=3),
    "in_sites: expected one for each of 2 layers, or none, got 1": lambda c: LSTM(
        4, 8, 2, in_sites=[None]
    ),
    r"in_sites\[1\]: expected last dimension 9": lambda c: LSTM(
        8, 8, 2, in_sites=[None, Site(c, 0, 9, P, "row")]
    ),
    r"recurrent_sites\[0\]: expected a site of neurons": lambda c: LSTM(
        8, 24, recurrent_sites=[site(c, 0, "tile")]
    ),
    "outputs 8 .* got 24": lambda c: LSTM(24, 8, in_sites=[site(c, 0, "tile")]),
    "expected a folded site": lambda c: LSTM(24, 8, in_sites=[RowDropout(site(c, 0)).site]),
    "'row' or 'block' for a folded site": lambda c: LSTM(
        4, 24, out_site=site(c, 0, "gyro", folded=True)
    ),
    "sites: expected one clock for all, got 2": lambda c: LSTM(
        24, 24, in_sites=[site(c, 0)], out_site=site(Clock(), 1)
    ),
    r"out_site: expected batch_dim=1 for the 2 groups": lambda c: LSTM(
        4, 24, out_site=site(c, 0, "block")
    )(torch.zeros(3, SAMPLES, 4)),
    "input: expected 2-D or 3-D, got 4-D": lambda c: LSTM(4, 24, out_site=site(c, 0))(
        torch.zeros(1, 1, 1, 4)
    ),
}


@pytest.mark.parametrize("match", BAD)
def test_bad_values_are_refused(match):
    with pytest.raises(ValueError, match=match):
        BAD[match](Clock())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_bad_types_and_sizes_are_refused():
    clock = Clock()
    with pytest.raises(TypeError, match=r"in_sites\[0\]: expected a Site, got int"):
        LSTM(4, 8, in_sites=[3])
    lstm = LSTM(IN, HIDDEN, in_sites=[site(clock, 0, "row", IN)])
    x = torch.zeros(3, SAMPLES, IN)
    with pytest.raises(TypeError, match=r"input: expected torch.float32, .* got torch.float16"):
        lstm(x.half())
    with pytest.raises(TypeError, match=r"input: expected torch.float32 as weight_ih_l0"):
        lstm(x.double())
    with pytest.raises(TypeError, match=r"h_0: expected torch.float32 as input"):
        lstm(x, (torch.zeros(1, SAMPLES, HIDDEN).double(),) * 2)
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size"):
        lstm(x, (torch.zeros(1, 2, HIDDEN),) * 2)
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size"):
        lstm(x[..., :3])
    with pytest.raises(NotImplementedError, match="forward-mode AD"):
        torch.func.jvp(lambda x: lstm(x)[0], (x,), (x,))
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph: expected False"):
        torch.autograd.grad(lstm(x)[0].sum(), x, create_graph=True)


@pytest.mark.parametrize("back", [None, "own", "units"])
@pytest.mark.parametrize("method", ["row", "block", "gyro"])
def test_rate_1_drops_everything(method, back):
    clock = Clock()
    inside = site(clock, 0, method, IN)
    all_dropped = Site(clock, 1, HIDDEN, 1.0, method, **RUN, **TILE)
    again = {None: None, "own": Site(clock, 2, HIDDEN, 1.0, method, **RUN, **TILE)}
    lstm = LSTM(
        IN, HIDDEN, batch_first=True, in_sites=[inside], out_site=all_dropped,
        recurrent_sites=[again.get(back, all_dropped)],
    )  # fmt: skip
    x = torch.randn(SAMPLES, 3, IN, requires_grad=True)
    state = torch.randn(1, SAMPLES, HIDDEN)
    y, (h, c) = lstm(x, (state, state))
    assert not y.any()
    assert h.isfinite().all()
    assert torch.equal(h, state) == torch.equal(c, state) == (back == "units")
    (y.sum() + h.sum()).backward()
    assert lstm.weight_hh_l0.grad.isfinite().all()
    assert x.grad.any() == (back != "units")
