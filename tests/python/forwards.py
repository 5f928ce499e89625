"""Networks whose modules have forwards of their own, and the links that are to be found there."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

P = 0.5


class Net(nn.Module):
    """A few layers, and a forward to use them: compute(self, x)."""

    def __init__(self, compute):
        super().__init__()
        self.up = nn.Linear(20, 48)
        self.mid = nn.Linear(48, 48)
        self.norm = nn.LayerNorm(48)
        self.relu = nn.ReLU()
        self.gelu = nn.GELU()
        self.drop = nn.Dropout(P)
        self.down = nn.Linear(48, 20)
        self.side = nn.Linear(48, 20)
        self.kept = []
        self.calls = 0
        self.scale = torch.ones(48)  # no buffer
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


def view(x):
    return x.view(x.size(0), -1)


def stored(m, x):
    m.last = h = m.up(x)
    return m.down(m.drop(h.relu()))


def appended(m, x):
    m.kept.append(h := m.drop(m.up(x)))
    return m.down(h)


def returned(m, x):
    h = m.up(x)
    return m.down(m.drop(h)) + m.side(h)


def in_place_elsewhere(m, x):
    h = m.up(x)
    return m.down(m.drop(F.relu(h, inplace=True))) + m.side(h)


def augmented(m, x):
    h = m.mid(m.gelu(m.up(x)))
    g = m.drop(h)
    h += 1
    return m.down(g)


def shifted(m, x):
    h = m.drop(m.up(x))
    h.add_(1)
    return m.down(h)


def stretched(m, x):
    h = m.drop(m.up(x))
    h.mul_(2)
    return m.down(h)


def filled(m, x):
    h = m.drop(m.up(x))
    h[:, 0] = 1
    return m.down(h)


def shifted_later(m, x):
    h = m.gelu(m.drop(m.up(x)))
    h.add_(1)
    return m.down(h)


def measured(m, x):
    h = m.drop(torch.tanh(m.up(x)))
    assert h.dim() > 1
    assert h.shape[0] > 0 and h.shape[-1] == 48, "a shape"  # noqa: PT018
    assert not h.is_sparse
    if h.shape[0] < 0 or h.ndim == 1:
        raise ValueError(f"expected samples, got {h.shape}")
    return m.down(h) / h.shape[0]


def twice_read(m, x):
    h = m.drop(F.relu(m.up(x)))
    return m.down(h) + m.side(h)


def both_read(m, x):
    h = m.drop(F.relu(m.up(x)))
    return m.down(h) + h.mean()


def flat(m, x):
    h = m.drop(m.up(torch.flatten(x, 1)))
    return m.down(h.flatten(1))


def viewed(m, x):
    h = m.drop(m.up(view(x)))
    return m.down(view(h))


# Name: (forward, "producer [relu] > consumer [further] [direct]", reasons).
FOUND = {
    "residual": (lambda m, x: x + m.down(m.drop(F.relu(m.up(x)))), "up > down direct"),
    "relu": (lambda m, x: m.down(m.drop(m.relu(m.up(x)))), "up relu > down direct"),
    "torch.relu": (lambda m, x: m.down(m.drop(torch.relu(m.up(x)))), "up > down direct"),
    ".relu()": (lambda m, x: m.down(m.drop(m.up(x).relu())), "up > down direct"),
    "gelu": (lambda m, x: m.down(m.drop(m.gelu(m.up(x)))), "up > down direct"),
    "F.gelu": (lambda m, x: m.down(m.drop(F.gelu(m.up(x)))), "up > down direct"),
    "F.silu": (lambda m, x: m.down(m.drop(F.silu(m.up(x)))), "up > down direct"),
    "torch.tanh": (lambda m, x: m.down(m.drop(torch.tanh(m.up(x)))), "up > down direct"),
    "torch.sigmoid": (lambda m, x: m.down(m.drop(torch.sigmoid(m.up(x)))), "up > down direct"),
    "F.sigmoid": (lambda m, x: m.down(m.drop(F.sigmoid(m.up(x)))), "up > down direct"),
    "1 - x / 2": (lambda m, x: m.down(m.drop(1 - m.up(x) / 2)), "up > down direct"),
    "relu_": (lambda m, x: m.down(m.drop(m.up(x).relu_())), "up > down direct"),
    "F.relu in place": (
        lambda m, x: m.down(m.drop(F.relu(m.up(x), inplace=True))) + x, "up > down direct"),
    "dropped twice its size": (lambda m, x: m.down(2 * m.drop(m.up(x))), "up > down"),
    "dropped, then relu": (lambda m, x: m.down(F.relu(m.drop(m.up(x)))), "up > down"),
    "read twice": (twice_read, "up > down side"),
    "read beside": (both_read, "up > down"),
    "stretched in place": (stretched, "up > down"),
    "appended": (appended, "up > down"),
    "checked": (measured, "up > down direct"),
    "flat": (flat, "up > down direct"),
    "viewed": (viewed, "up > down direct"),
    "through layers of the net": (
        lambda m, x: m.down(m.drop(F.relu(m.mid(F.relu(m.up(x)))))), "mid > down direct"),
    "dropped, then sigmoid": (
        lambda m, x: m.down(m.drop(m.up(x)).sigmoid()), "up > -",
        ".sigmoid() after it makes something else of 0"),
    "norm": (
        lambda m, x: m.down(m.drop(F.relu(m.norm(m.up(x))))), "- > down direct",
        "'norm' (LayerNorm) before it is not element-wise"),
    "first": (
        lambda m, x: m.side(m.up(m.drop(x))), "- > up direct",
        "its input is that of the model"),
    "last": (
        lambda m, x: m.drop(m.up(x).relu()), "up > -",
        "its result is that of the model"),
    "sum": (
        lambda m, x: x + m.drop(m.down(m.up(x))), "down > -",
        "add() after it is not element-wise"),
    "returned": (
        returned, "- > down direct",
        "'up' (Linear) before it is also read by 'side' (Linear)"),
    "stored": (
        stored, "- > down direct",
        "'up' (Linear) before it is also kept by the code"),
    "in place elsewhere": (
        in_place_elsewhere, "- > down direct",
        "'up' (Linear) before it is also read by 'side' (Linear)"),
    "augmented": (
        augmented, "- > down",
        "'mid' (Linear) before it is also read by iadd()"),
    "shifted in place": (
        shifted, "up > -",
        "'down' (Linear) after it reads what .add_() has changed in place"),
    "shifted in place later": (
        shifted_later, "up > -",
        "'down' (Linear) after it reads what .add_() has changed in place"),
    "filled in place": (
        filled, "up > -",
        "'down' (Linear) after it reads what setitem() has changed in place"),
    "flattened": (
        lambda m, x: m.down(torch.flatten(m.drop(m.up(x)), 1)), "up > -",
        "flatten() after it may join dimensions: drop behind it"),
    "selected": (
        lambda m, x: m.down(m.drop(m.up(x))[:1]), "up > -",
        "getitem() after it is not element-wise"),
    "linear used twice": (
        lambda m, x: m.mid(m.drop(F.relu(m.mid(m.up(x))))), "- > -",
        "'mid' (Linear) before it is called at more than one place",
        "'mid' (Linear) after it is called at more than one place"),
}  # fmt: skip


def drop_twice(m, x):
    return m.down(m.drop(F.relu(m.mid(m.drop(m.gelu(m.up(x)))))))


def in_place(m, x):
    h = m.up(x)
    m.drop(h)
    return m.down(h)


def counts(m, x):
    m.calls += 1
    return m.down(m.drop(m.up(x)))


def draws(m, x):
    if torch.rand(()) < 0.5:
        x = x * 2
    return m.down(m.drop(m.up(x)))


def overwrites(m, x):
    m.scale.mul_(2)
    return m.down(m.drop(m.up(x) * m.scale))


def hands_over(m, x):
    return run_with(x, m.down, m.drop(m.up(x)))


@torch.fx.wrap
def run_with(x, module, value):
    return module(value)


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient.roll(1, -1)


UNTRACED = "so what reads it is not known: the forward of the model (Net) could not be traced, as "

# Name: (forward, why its dropout is left alone).
REFUSED = {
    "dropped twice": (drop_twice, "it is called at more than one place, behind 'gelu' (GELU) and "
                      "relu(); give each an nn.Dropout of its own"),
    "dropped in place": (in_place, "it works in place, and 'down' (Linear) reads its input "
                         "afterwards"),
    "not called": (lambda m, x: m.down(m.up(x)), "no traced forward calls it"),
    "branches": (lambda m, x: m.down(m.drop(m.up(x))) if x.sum() > 0 else x,
                 UNTRACED + "it branches on a value or a shape"),
    "iterates": (lambda m, x: sum(m.down(m.drop(m.up(row))) for row in x),
                 UNTRACED + "it iterates over a value"),
    "asks for a type": (lambda m, x: m.down(m.drop(m.up(x))) if isinstance(x, list) else x,
                        UNTRACED + "it asks for the type of a value"),
    "asks for a tensor": (lambda m, x: m.down(m.drop(m.up(x))) if torch.is_tensor(x) else x,
                          UNTRACED + "it asks for the type of a value"),
    "dropout past the call": (lambda m, x: m.down(m.drop.forward(m.up(x))),
                              UNTRACED + "it calls the forward method of a module"),
    "linear past the call": (lambda m, x: m.down.forward(m.drop(m.up(x))),
                             UNTRACED + "it calls the forward method of a module"),
    "counts": (counts, UNTRACED + "it changes its attribute 'calls'"),
    "draws": (draws, UNTRACED + "it draws random numbers while it runs"),
    "overwrites": (overwrites, UNTRACED + "it changes a tensor in place"),
    "hands over": (hands_over, UNTRACED + "it passes a module to a function"),
    "asks for an attribute": (lambda m, x: m.down(m.drop(m.up(x.y if hasattr(x, "y") else x))),
                              UNTRACED + "it asks whether a value has 'y'"),
    "a derivative of its own": (lambda m, x: m.down(m.drop(Double.apply(m.up(x)))),
                                UNTRACED + "it has a derivative of its own, an autograd.Function"),
    "fails": (lambda m, x: m.down(m.drop(m.nothing(x))),
              UNTRACED + "AttributeError: 'Net' object has no attribute 'nothing'"),
}  # fmt: skip


class Convolutional(nn.Module):
    """Features -> Flatten -> classifier, as VGG and AlexNet; a dropout before the flattening."""

    def __init__(self, flatten):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.early = nn.Dropout(0.0)
        self.flatten = flatten
        self.classifier = nn.Sequential(
            nn.Dropout(P), nn.Linear(36, 48), nn.ReLU(inplace=True),
            nn.Dropout(P, inplace=True), nn.Linear(48, 24), nn.ReLU(inplace=True), nn.Linear(24, 3),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.flatten(self.early(self.features(x))))


FLATTENS = {
    "nn.Flatten": nn.Flatten(),
    "torch.flatten": lambda x: torch.flatten(x, 1),
    ".flatten()": lambda x: x.flatten(start_dim=1),
    ".view()": lambda x: x.view(x.size(0), -1),
    ".reshape()": lambda x: x.reshape(x.shape[0], -1),
}


class Branches(nn.Module):
    """Cannot be traced, and holds what can: a chain, and a module with a forward of its own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 20))
        self.blocks = nn.ModuleList(
            Net(lambda m, x: x + m.down(m.drop(m.gelu(m.up(x))))) for _ in range(2)
        )
        self.loose = nn.Dropout(0.0)

    def forward(self, x):
        x = self.body(x)
        for block in self.blocks:
            if x.shape[0] > 1:
                x = block(x)
        return self.loose(x)
