"""ensemble: many subnets of a converted model evaluated together, and what they disagree about.

A network with its dropouts left on is another network for each mask: their mean predicts, and their
spread says how sure that is (Monte-Carlo dropout: Gal & Ghahramani, "Dropout as a Bayesian
Approximation", 2016). Here the passes are one. What lies before the first dropout is the same for
all subnets and computed once; behind it, each subnet has a row group of every product, which skips
what that subnet drops. torch.vmap does the rest of the model, and members.py the converted layers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dropgemm.arrays import to_integer
from dropgemm.masks import INT_END
from dropgemm.torch.members import Members, attend, sites_of
from dropgemm.torch.revert import refuse_sharded


class Prediction(NamedTuple):
    """What the subnets of an ensemble say, y[t] of subnet t.

    members: [subnets, batch, ...]. probabilities: of classes, in the last dimension.
    """

    members: Tensor
    probabilities: bool = False

    @property
    def mean(self) -> Tensor:
        """The prediction: sum over t of y[t] / T."""
        return self.members.mean(0)

    @property
    def variance(self) -> Tensor:
        """Of each output over the subnets: sum over t of (y[t] - mean)^2 / T.

        The model's share of the predictive variance (Gal & Ghahramani, 2016, section 4); the noise
        of what is predicted, their 1 / tau, comes on top.
        """
        return self.members.var(0, correction=0)

    @property
    def entropy(self) -> Tensor:
        """H(mean) in nats, H(p) = -sum over classes of p log p: all that is not certain."""
        self._check("entropy")
        return _entropy(self.mean)

    @property
    def mutual_information(self) -> Tensor:
        """H(mean) - sum over t of H(y[t]) / T, in nats: what the subnets disagree about.

        BALD (Houlsby et al., "Bayesian Active Learning", 2011; with dropout Gal, Islam &
        Ghahramani, 2017): high where another label would teach the model most, and low where every
        subnet is just as unsure as the others.
        """
        self._check("mutual_information")
        return _entropy(self.mean) - _entropy(self.members).mean(0)

    def _check(self, name: str) -> None:
        if not self.probabilities:
            raise ValueError(
                f"{name}: expected an ensemble called with logits=True, whose members are "
                "probabilities, got one of plain outputs"
            )


def _entropy(p: Tensor) -> Tensor:
    terms: Tensor = torch.special.entr(p)  # -p log p
    return terms.sum(-1)


class Ensemble:
    """Some subnets of a converted model, as one function of the model's inputs.

    It reads the weights and buffers of the model, and sees them change; everything else is its own,
    so that training goes on undisturbed. All modules are in eval mode but for converted dropouts.
    Gradients are not recorded. ensemble() makes it; after model.to(), which may put other buffers
    into the model, make another.

    model: the twin that runs. members: its subnets. batched: as in ensemble().
    """

    def __init__(self, model: nn.Module, members: Members, batched: bool) -> None:
        self.model = model
        self.batched = batched
        self._members = members

    def __call__(self, *inputs: Any, logits: bool = False, **named: Any) -> Prediction:
        """What each subnet makes of the model's arguments.

        logits: the outputs are logits of classes in the last dimension, whose softmax counts.
        TypeError for a model that returns anything but a tensor.
        """
        run = self._together if self.batched else self._in_turn
        with torch.no_grad(), _without_fast_path():
            y: Tensor = run(inputs, named)
            return Prediction(torch.softmax(y, -1) if logits else y, logits)

    def _together(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        def run(number: Tensor) -> Tensor:
            with self._members.mapped(number):
                return _tensor(self.model(*inputs, **named))

        # What another than a converted module draws is to be drawn for each subnet.
        mapped = torch.vmap(run, randomness="different")
        with warnings.catch_warnings():
            # PyTorch's attention has no batching rule, and is run for each subnet.
            warnings.filterwarnings("ignore", "There is a performance drop")
            result: Tensor = mapped(torch.arange(self._members.count))
        return result

    def _in_turn(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
        results = []
        for number in range(self._members.count):
            with self._members.only(number):
                results.append(_tensor(self.model(*inputs, **named)))
        return torch.stack(results)

    def __repr__(self) -> str:
        """How many subnets, of what."""
        return f"Ensemble({self._members.count} subnets of {type(self.model).__name__})"


def ensemble(model: nn.Module, subnets: int | Sequence[int], *, batched: bool = True) -> Ensemble:
    """Many subnets of a converted model, evaluated together.

        found = ensemble(model, 16)(inputs, logits=True)
        found.mean, found.variance, found.mutual_information

    subnets: how many, evenly spread over the run's, or their numbers. Those of "block" and "gyro"
    are the pre-selected subnets; for "row" and "tile" a number is the step whose pattern is taken;
    "bernoulli" draws anew for each of them and each sample. What is not converted does not drop.

    batched=False runs the model once for each subnet, with the same masks: for forwards that
    torch.vmap refuses, as those that branch on values.

    Raises ValueError for a model that is not converted, that drops nothing or is sharded, and for
    numbers out of range.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__qualname__}")
    refuse_sharded(model)
    if not any(sites_of(module) for module in model.modules()):
        raise ValueError(
            "model: expected a converted one with a rate above 0, got one that drops nothing here: "
            "call convert(model, ...) first"
        )
    if isinstance(subnets, Sequence):
        count = len(subnets)
        if not count:
            raise ValueError("subnets: expected one at least, got none")
    else:
        count = subnets = to_integer("subnets", subnets, 1, INT_END)
    members, twin = Members(count), _twin(model)
    attend(twin, members, subnets)
    return Ensemble(twin, members, batched)


def _twin(model: nn.Module) -> nn.Module:
    """A copy of all but tensors: parameters, buffers, and what forwards have stored."""
    stored = (value for module in model.modules() for value in vars(module).values())
    tensors = [*model.parameters(), *model.buffers(), *stored]
    shared: dict[int, Any] = {id(t): t for t in tensors if isinstance(t, Tensor)}
    return copy.deepcopy(model, shared)


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """In eval mode nn.TransformerEncoderLayer would go past its modules, dropouts and all."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _tensor(result: object) -> Tensor:
    if not isinstance(result, Tensor):
        raise TypeError(
            "model: expected one that returns a tensor, got a result of type "
            f"{type(result).__qualname__}: wrap it in a module that returns what is predicted"
        )
    return result
