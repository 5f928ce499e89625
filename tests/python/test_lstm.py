"""LSTM against nn.LSTM's equations with explicit dense masks, in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dropgemm.torch import LSTM, Clock, Site
from lstms import HIDDEN, IN, METHODS, SAMPLES, TILE, compare, dense, gradients, keep, make, site
from networks import RUN, P


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
        (2, {}, (6, 9)),
    ],
)
def test_layers_biases_and_shapes(method, layers, rest, shape):
    for back in (None, "own", "units"):
        compare(make(method, back, layers, **rest), *shape)


@pytest.mark.parametrize("back", [None, "own", "units"])
def test_under_medium(back):
    """Products of weights, inputs and states that are rounded to 8 bits."""
    lstm = make("row", back, layers=1).float()
    x, results = torch.randn(SAMPLES, 5, IN), []
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        try:
            y, last = lstm(x)
            results.append([y, *gradients([y, *last], list(lstm.parameters()))])
        finally:
            torch.set_float32_matmul_precision("highest")
    for exact, medium in zip(*results, strict=True):
        # Each of 5 steps adds a rounding of either factor, in units of the largest result.
        unit = exact.abs().max().item()
        torch.testing.assert_close(medium, exact, rtol=0, atol=2 * 5 * 2.0**-8 * unit)


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
