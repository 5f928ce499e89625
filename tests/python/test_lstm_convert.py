"""LSTM among other modules: dropouts before it, Linears behind it, and convert."""

import copy

import pytest
import torch
from torch import nn

from dropgemm.torch import LSTM, BlockDropout, Clock, Linear, convert, revert
from lstms import HIDDEN, IN, SAMPLES, compare, dense, gradients, site
from networks import RUN, P


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
