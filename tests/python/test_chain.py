"""Finding links in forwards: what is found, what is refused and why, and that it holds."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)
from torch.utils.checkpoint import checkpoint

from dropgemm.torch import convert
from dropgemm.torch.chain import find_links
from forwards import FLATTENS, FOUND, REFUSED, Branches, Convolutional, Net
from networks import RUN, TILE, P, site_mask

GOOD = {"advance": "manual", **RUN, **TILE}


def summary(link):
    parts = [link.producer[0] if link.producer else "-", *([link.relu[0]] if link.relu else [])]
    parts += [">", link.consumer[0] if link.consumer else "-", *(name for name, _ in link.further)]
    return " ".join(parts + (["direct"] if link.direct else []))


def found(model):
    """{dropout: summary} and {name: why not}."""
    links, others = find_links(model)
    return {link.name: summary(link) for link in links}, dict(others)


@pytest.mark.parametrize("name", FOUND)
def test_links_of_a_forward(name):
    compute, expected, *reasons = FOUND[name]
    (link,), others = find_links(Net(compute))
    assert summary(link) == expected
    assert [r for r in (link.producer_reason, link.consumer_reason) if r] == reasons
    assert link.dropout.p == P
    assert not others


@pytest.mark.parametrize("name", REFUSED)
def test_dropouts_that_are_left_alone(name):
    compute, expected = REFUSED[name]
    model = Net(compute)
    model.drop.inplace = name == "dropped in place"
    links, ((who, why),) = find_links(model)
    assert links == []
    assert who == "drop"
    assert expected in why


class Explicit(nn.Module):
    """A dropout whose mask comes from the functional API."""

    def __init__(self, site, schedule):
        super().__init__()
        self.site, self.schedule = site, schedule

    def forward(self, x):
        keep = site_mask(self.site, int(self.schedule.clock.step), x)
        return torch.where(keep, x * self.site.scale, 0.0)


def equals_dense(model, shapes, method="block", **settings):
    """Converts a model, and compares it with the same masks run densely for three steps."""
    model = model.double()
    dense = copy.deepcopy(model)
    names = {id(module): name for name, module in model.named_modules()}
    schedule = convert(model, method=method, **{**GOOD, **settings})
    for site in schedule.sites:
        dense.set_submodule(names[id(site.owner)], Explicit(site, schedule))
    for shape in shapes:
        for _ in range(3):
            x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
            results = [network(x.clone()) for network in (model, dense)]
            got, expected = (torch.cat([p.flatten() for p in r]) if isinstance(r, tuple) else r
                             for r in results)  # fmt: skip
            torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
            for pair in zip(used(got, model, x), used(expected, dense, x), strict=True):
                torch.testing.assert_close(*pair, rtol=1e-11, atol=1e-11)
            schedule.step()
    return schedule


def used(output, model, x):
    """gradients() through backward(), which a forward that does not reach all of a model allows."""
    tensors = [x, *model.parameters()]
    for tensor in tensors:
        tensor.grad = None
    weights = torch.linspace(-1.0, 1.0, output.numel(), dtype=output.dtype).view(output.shape)
    (output * weights).sum().backward()
    return [torch.zeros(()) if tensor.grad is None else tensor.grad for tensor in tensors]


@pytest.mark.parametrize("sides", ["both", "input", "output"])
@pytest.mark.parametrize("name", FOUND)
def test_converted_forwards_equal_the_same_masks_run_densely(name, sides):
    compute, expected, *_ = FOUND[name]
    producer, consumer = (side.split()[0] for side in expected.split(" > "))
    if (producer == "-" or sides == "input") and (consumer == "-" or sides == "output"):
        with pytest.raises(ValueError, match="found nothing to convert"):
            convert(Net(compute), method="block", sides=sides, **GOOD)
        return
    matrices = name in ("flat", "viewed", "flattened", "filled in place")
    shapes = [(40, 20)] if matrices else [(40, 20), (6, 5, 20)]
    equals_dense(Net(compute), shapes, sides=sides)


def test_every_choice_of_optional_arguments():
    class Optional(Net):
        def forward(self, x, extra=None, *, again=None):
            h = self.gelu(self.up(x))
            h = self.drop(h if again is None else h + again)
            return self.down(h if extra is None else h + extra)

    (link,), _ = find_links(Optional(None))
    assert summary(link) == "- > -"
    assert "every choice of optional arguments" in link.producer_reason
    assert "every choice of optional arguments" in link.consumer_reason

    class Needed(Net):
        def forward(self, x=None, y=None, again=None):
            h = self.drop(self.gelu(self.up(y if x is None else x)))
            return self.down(h if again is None else h + again)

    (link,), _ = find_links(Needed(None))
    assert summary(link) == "up > -"

    # A flag cannot be traced as a value: its default counts.

    class Flag(Net):
        def forward(self, x, flag=False):
            h = self.drop(self.gelu(self.up(x)))
            return h if flag else self.down(h)

    assert found(Flag(None))[0] == {"drop": "up > down direct"}


@pytest.mark.parametrize("flatten", FLATTENS)
def test_heads_of_convolutional_networks(flatten):
    model = Convolutional(FLATTENS[flatten])
    links, others = find_links(model)
    assert {link.name: summary(link) for link in links} == {
        "early": "- > -",
        "classifier.0": "- > classifier.1 direct",
        "classifier.3": "classifier.1 classifier.2 > classifier.4 direct",
    }
    assert not others
    assert links[0].consumer_reason.endswith("after it may join dimensions: drop behind it")
    assert "'features.2' (MaxPool2d) before it" in links[0].producer_reason
    equals_dense(model, [(40, 1, 8, 8), (3, 1, 8, 8)])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu", nn.ReLU])
def test_transformer_layers(norm_first, activation):
    def make(kind):
        function = activation() if activation is nn.ReLU else activation
        return kind(20, 2, 48, P, function, batch_first=True, norm_first=norm_first)

    layer = make(nn.TransformerEncoderLayer)
    links, others = found(layer)
    relu = " activation" if activation is nn.ReLU else ""
    assert links == {
        "dropout": f"linear1{relu} > linear2 direct",
        "dropout1": "- > -",
        "dropout2": "linear2 > -",
    }
    assert others == {"self_attn": "MultiheadAttention drops inside, where there is no module to "
                      "convert; it keeps its dropout"}  # fmt: skip
    layer.self_attn.dropout = layer.dropout1.p = 0.0
    plain = copy.deepcopy(layer).double().eval()
    equals_dense(layer, [(40, 3, 20), (6, 5, 20)])
    x = torch.randn(4, 3, 20, dtype=torch.float64)
    with torch.no_grad():  # evaluation takes PyTorch's fused path, past the modules
        assert torch.equal(layer.eval()(x), plain(x))

    decoder = make(nn.TransformerDecoderLayer)
    assert found(decoder)[0]["dropout"] == f"linear1{relu} > linear2 direct"
    assert found(decoder)[0]["dropout3"] == "linear2 > -"


def test_whole_transformers_are_taken_layer_by_layer():
    model = nn.Transformer(20, 2, 2, 2, 48, batch_first=True)
    links, _ = found(model)
    assert [name for name, link in links.items() if link.endswith("linear2 direct")] == [
        f"{side}.layers.{n}.dropout" for side in ("encoder", "decoder") for n in (0, 1)
    ]


def test_modules_that_cannot_be_traced_are_taken_apart():
    model = Branches()
    links, others = found(model)
    assert links == {
        "body.2": "body.0 body.1 > body.3 direct",
        "blocks.0.drop": "blocks.0.up > blocks.0.down direct",
        "blocks.1.drop": "blocks.1.up > blocks.1.down direct",
    }
    assert "(Branches) could not be traced, as it branches on a value or a shape" in others["loose"]
    equals_dense(model, [(40, 20)])
    # One call in a graph that can be, with an outside that is proved all the same.
    links, others = found(nn.Sequential(nn.Linear(20, 20), nn.Dropout(P), Branches()))
    assert links["1"] == "0 > -"
    assert links["2.body.2"] == "2.body.0 2.body.1 > 2.body.3 direct"
    assert "the forward of '2' (Branches)" in others["2.loose"]


def test_modules_of_modules():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(Net(FOUND["residual"][0]), nn.Sequential(nn.Linear(20, 48)))
            self.act = nn.ReLU()
            self.drops = nn.ModuleDict({"a": nn.Dropout(P)})
            self.head = nn.Linear(48, 20)

        def forward(self, x):
            x = self.body[:1](x)
            return self.head(self.drops["a"](self.act(self.body[1](x))))

    model = Outer()
    assert found(model)[0] == {
        "body.0.drop": "body.0.up > body.0.down direct",
        "drops.a": "body.1.0 act > head direct",
    }
    schedule = equals_dense(model, [(40, 20), (6, 5, 20)])
    assert [site.id for site in schedule.sites] == [0, 1]


def test_recomputed_parts():
    class Recomputed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P))
            self.head = nn.Linear(48, 3)
            self.reentrant = False

        def forward(self, x):
            return self.head(checkpoint(self.body, x, use_reentrant=self.reentrant))

    model = Recomputed()
    assert found(model)[0] == {"body.2": "body.0 body.1 > head direct"}
    model.reentrant = True  # its derivative is made by hand: only the inside is shown
    assert found(model)[0] == {"body.2": "body.0 body.1 > -"}
    model.reentrant = False
    equals_dense(model, [(40, 20)])


def test_a_relu_of_two_places_is_not_folded():
    def compute(m, x):
        return m.relu(m.down(m.drop(m.relu(m.up(x)))))

    assert found(Net(compute))[0] == {"drop": "up > down direct"}
    equals_dense(Net(compute), [(40, 20)])
    relu = nn.ReLU()
    chain = nn.Sequential(nn.Linear(20, 48), relu, nn.Dropout(P), nn.Linear(48, 3), relu)
    assert found(chain)[0] == {"2": "0 > 3 direct"}


def test_hooks_end_a_path_and_do_not_run():
    called = []

    def hooked(name):
        model = nn.Sequential(Net(FOUND["gelu"][0]))
        model.get_submodule(name).register_forward_hook(lambda *_: called.append(name))
        return find_links(model)

    assert hooked("0.gelu")[0][0].producer_reason == "'0.gelu' (GELU) before it has hooks"
    assert hooked("0.down")[0][0].consumer_reason == "'0.down' (Linear) after it has hooks"
    assert hooked("0.drop")[0][0].reason.startswith("it has hooks")
    assert summary(hooked("0")[0][0]) == "0.up > 0.down direct"
    model = Net(lambda m, x: m.down(m.drop(m.inner(x))))
    model.inner = nn.Sequential(nn.Linear(20, 48))
    model.inner.register_forward_hook(lambda *_: called.append("inner"))
    assert summary(find_links(model)[0][0]) == "- > down direct"
    assert not called


def test_every_other_dropout_is_listed():
    class Own(nn.Dropout):
        pass

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                [nn.Dropout1d(), nn.Dropout2d(), nn.Dropout3d(), nn.AlphaDropout(), Own()]
            )
            self.rnn = nn.GRU(20, 20, 2, dropout=P)
            self.both = nn.LSTM(20, 10, 2, dropout=P, bidirectional=True)
            self.plain = nn.LSTM(20, 20)

        def forward(self, x):
            x = self.both(self.plain(self.rnn(x)[0])[0])[0]
            for layer in self.layers:
                x = layer(x)
            x = F.dropout(x, 0.3, self.training)
            return F.dropout(x, 0.3, False) + F.scaled_dot_product_attention(x, x, x, dropout_p=0.1)

    model = Model()
    links, others = find_links(model)
    assert links == []
    function = "its forward calls F.{}, where there is no module to convert"
    assert others == [
        ("the model", "its forward calls F.dropout, where an nn.Dropout would be converted"),
        ("the model", function.format("scaled_dot_product_attention")),
        ("layers.0", "Dropout1d is no nn.Dropout, which alone is converted"),
        ("layers.1", "Dropout2d is no nn.Dropout, which alone is converted"),
        ("layers.2", "Dropout3d is no nn.Dropout, which alone is converted"),
        ("layers.3", "AlphaDropout is no nn.Dropout, which alone is converted"),
        ("layers.4", "Own is a subclass of nn.Dropout, and may do something else; use nn.Dropout"),
        ("rnn", "GRU drops inside, where there is no module to convert; it keeps its dropout"),
        (
            "both",
            "LSTM drops inside, and is not converted; bidirectional: expected False, as a mask is "
            "of one direction, got True",
        ),
    ]


def test_modules_with_two_names_are_refused_with_both():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Net(FOUND["gelu"][0])
            self.second = Net(FOUND["gelu"][0])
            self.second.drop = self.first.drop

        def forward(self, x):
            return self.second(self.first(x))

    with pytest.raises(ValueError, match=r"of its own at each of 'first.drop', 'second.drop'"):
        convert(Shared(), method="block", **GOOD)
