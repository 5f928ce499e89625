"""revert: a converted model becomes the ordinary one again, with its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from dropgemm.torch.clock import Clock
from dropgemm.torch.dropout import _SiteDropout
from dropgemm.torch.follow import release
from dropgemm.torch.linear import Linear
from dropgemm.torch.lstm import LSTM
from dropgemm.torch.relu import ReLU

# What a converted module is again, and the attributes that it loses.
_PLAIN: dict[type[nn.Module], tuple[type[nn.Module], tuple[str, ...]]] = {
    Linear: (nn.Linear, ("in_site", "out_site", "weight_site", "prune_weight_grad")),
    ReLU: (nn.ReLU, ("site",)),
    LSTM: (nn.LSTM, ("in_sites", "out_site", "recurrent_sites")),
    _SiteDropout: (nn.Dropout, ("site",)),
}


def revert(model: nn.Module) -> None:
    """Undoes convert: nn.Linear, nn.LSTM and nn.Dropout(p) again, the same modules and parameters.

    The optimizer's steps advance the schedule no more. Raises ValueError for a model that is not
    converted, or sharded since.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__qualname__}")
    refuse_sharded(model)
    converted = [module for module in model.modules() if isinstance(module, tuple(_PLAIN))]
    if not converted:
        raise ValueError("model: expected a converted one, got one without dropgemm's modules")
    clocks = {module._modules.pop("clock", None) for module in converted}
    for module in converted:
        _revert(module)
    for clock in clocks:
        if isinstance(clock, Clock):
            release(clock)


def _revert(module: Any) -> None:
    kind = next(kind for kind in _PLAIN if isinstance(module, kind))
    plain, attributes = _PLAIN[kind]
    if kind is _SiteDropout:  # one that was made by hand has no rate but the site's
        module.__dict__.setdefault("p", module.p)
        module.__dict__.setdefault("inplace", module.inplace)
    for name in attributes:
        module.__dict__.pop(name, None)
    module.__class__ = plain


def refuse_sharded(model: nn.Module) -> None:
    """FSDP2 works by classes of its own, which a change of class would take away."""
    for name, module in model.named_modules():
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            raise ValueError(
                "model: expected one that fully_shard has not seen yet: convert before it, got "
                f"{type(module).__name__}" + (f" at '{name}'" if name else "")
            )
