"""What an ensemble predicts, which subnets it has, and what it refuses."""

import math

import pytest
import torch
from torch import nn

from dropgemm.torch import Prediction, convert, ensemble
from forwards import Branches
from networks import make

SETTINGS = {
    "total_steps": 12, "seed": 5, "subnets": 40, "tile_rows": 16, "tile_cols": 8,
    "advance": "manual",
}  # fmt: skip
NUMBERS = [3, 0, 11, 3, 7]  # of subnets, and of steps


def test_predictions():
    p = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]], dtype=torch.float64)
    found = Prediction(p, probabilities=True)
    assert found.mean.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert found.variance.tolist() == [[0.25, 0.25], [0.0, 0.0]]
    torch.testing.assert_close(found.entropy, torch.full((2,), math.log(2), dtype=torch.float64))
    # Two that are sure of different classes; two that are unsure alike.
    expected = torch.tensor([math.log(2), 0.0], dtype=torch.float64)
    torch.testing.assert_close(found.mutual_information, expected)
    for name in ("entropy", "mutual_information"):
        with pytest.raises(
            ValueError, match=f"{name}: expected an ensemble called with logits=Tru"
        ):
            getattr(Prediction(p), name)


def test_logits_become_probabilities():
    model = make("mlp")
    convert(model, method="block", **SETTINGS)
    together, x = ensemble(model, 6), torch.randn(8, 20, dtype=torch.float64)
    plain, found = together(x), together(x, logits=True)
    torch.testing.assert_close(found.members, plain.members.softmax(-1))
    assert plain.mean.shape == plain.variance.shape == found.mean.shape == (8, 3)
    assert found.entropy.shape == found.mutual_information.shape == (8,)
    assert (found.mutual_information > 0).all()
    assert (found.mutual_information < found.entropy).all()


def test_subnets_are_spread_over_the_run():
    model = make("mlp")
    convert(model, method="block", **SETTINGS)
    x = torch.randn(8, 20, dtype=torch.float64)
    spread = ensemble(model, 4)(x).members
    assert torch.equal(spread, ensemble(model, [0, 10, 20, 30])(x).members)
    assert repr(ensemble(model, 4)) == "Ensemble(4 subnets of Sequential)"


def test_forwards_that_branch_are_taken_in_turn():
    model = Branches().double()
    convert(model, method="block", **SETTINGS)
    x = torch.randn(16, 20, dtype=torch.float64)
    together, apart = ensemble(model, NUMBERS), ensemble(model, NUMBERS, batched=False)
    torch.testing.assert_close(together(x).members, apart(x).members)  # by shape: vmap can

    class Decides(Branches):
        def forward(self, x):
            h = super().forward(x)
            return h if h.sum() > 0 else -h

    model = Decides().double()
    convert(model, method="block", **SETTINGS)
    with pytest.raises(RuntimeError, match="vmap"):
        ensemble(model, NUMBERS)(x)
    assert ensemble(model, NUMBERS, batched=False)(x).mean.shape == (16, 20)


def test_what_is_refused():
    plain, model = make("mlp"), make("mlp")
    with pytest.raises(TypeError, match=r"model: expected an nn.Module, got list"):
        ensemble([], 4)
    with pytest.raises(ValueError, match=r"model: expected a converted one .*call convert\(model"):
        ensemble(plain, 4)
    convert(plain, p=0.0, method="block", **SETTINGS)
    with pytest.raises(ValueError, match="model: expected a converted one with a rate above 0"):
        ensemble(plain, 4)
    convert(model, method="block", **SETTINGS)
    for subnets, message in (
        (0, "subnets: expected an integer in"),
        ([], "subnets: expected one at least, got none"),
        (41, r"subnets: expected at most 40 \(subnets\), got 41"),
        ([0, 40], r"subnets\[1\]: expected an integer in \[0, 40\), got 40"),
    ):
        with pytest.raises(ValueError, match=message):
            ensemble(model, subnets)

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make("mlp")

        def forward(self, x):
            return self.body(x), x

    model = Pair()
    convert(model, method="row", **SETTINGS)
    for batched in (True, False):
        with pytest.raises(
            TypeError, match=r"model: expected one that returns a tensor, got .*tuple"
        ):
            ensemble(model, 4, batched=batched)(torch.zeros(4, 20, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"subnets: expected at most 12 \(total_steps\), got 13"):
        ensemble(model, 13)
