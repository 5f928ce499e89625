"""LSTMs to test, and nn.LSTM's equations with explicit dense masks beside them."""

import torch

import dropgemm as dg
from dropgemm.torch import LSTM, Clock, Site
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
        key = int(place.draws.key) % (1 << 64)
        mask = dg.bernoulli_mask(batch, features, P, seed=key, site=place.id, like=x)
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
        weights = torch.linspace(
            -1.0, 1.0, result.numel(), dtype=result.dtype, device=result.device
        )
        total = total + (result * weights.view(result.shape)).sum()
    return torch.autograd.grad(total, inputs)


def compare(lstm, length=3, batch=SAMPLES, seed=0):
    """Outputs, last states and all gradients."""
    torch.manual_seed(seed)
    device = lstm.weight_ih_l0.device
    x = torch.randn(length, batch, lstm.input_size, dtype=torch.float64).to(device)
    x.requires_grad_()
    state = [
        torch.randn(lstm.num_layers, batch, lstm.hidden_size, dtype=torch.float64).to(device)
        for _ in range(2)
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
