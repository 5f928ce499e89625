"""Finding the dropouts of a model, and the Linear layers that may skip what they drop.

Only plain nn.Sequential chains prove who produces and who consumes a value: a Linear is linked to
a dropout where every module between them is element-wise and nothing can look in between.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import nn

# Element-wise modules by exact type, and whether they map 0 to 0.
_ZERO_AT_ZERO: dict[type[nn.Module], bool] = {
    nn.Identity: True, nn.ReLU: True, nn.ReLU6: True, nn.LeakyReLU: True, nn.PReLU: True,
    nn.ELU: True, nn.SELU: True, nn.CELU: True, nn.GELU: True, nn.SiLU: True, nn.Mish: True,
    nn.Hardswish: True, nn.Tanh: True, nn.Softsign: True, nn.Tanhshrink: True,
    nn.Softshrink: True, nn.Hardshrink: True,
    nn.Sigmoid: False, nn.Hardsigmoid: False, nn.LogSigmoid: False, nn.Softplus: False,
}  # fmt: skip


@dataclass
class Link:
    """A dropout of a chain and its neighbours, each with its name in the model."""

    name: str
    dropout: nn.Dropout
    producer: tuple[str, nn.Linear] | None = None  # its output is dropped here
    consumer: tuple[str, nn.Linear] | None = None  # its input is zero where this drops
    direct: bool = False  # the consumer reads the dropout's own result, and nothing else does
    relu: tuple[str, nn.ReLU] | None = None  # all that is between the producer and the dropout
    reason: str = ""  # why a neighbour is missing


def find_links(model: nn.Module) -> tuple[list[Link], list[tuple[str, str]]]:
    """The dropouts of plain nn.Sequential chains, and (name, why not) of the others."""
    links: list[Link] = []
    seen: set[int] = set()
    for chain in _chains(model):
        for index, (name, module) in enumerate(chain):
            if type(module) is nn.Dropout and id(module) not in seen:
                seen.add(id(module))
                links.append(_link(chain, index, name, module))
    others = [
        (name or "the model", "it is in no nn.Sequential, so what reads it is not known")
        for name, module in model.named_modules()
        if type(module) is nn.Dropout and id(module) not in seen
    ]
    return links, others


def shared_modules(model: nn.Module) -> dict[int, list[str]]:
    """The names of each module that a model holds more than once, by id."""
    modules = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, (nn.Dropout, nn.Linear))
    ]
    counts = Counter(id(module) for _, module in modules)
    shared: dict[int, list[str]] = {}
    for name, module in modules:
        if counts[id(module)] > 1:
            shared.setdefault(id(module), []).append(name)
    return shared


Chain = list[tuple[str, nn.Module]]


def _chains(model: nn.Module) -> list[Chain]:
    """Every maximal chain of modules run one after the other, in the order of the model."""
    chains: list[Chain] = []

    def walk(name: str, module: nn.Module) -> None:
        if type(module) is nn.Sequential:
            chain: Chain = []
            chains.append(chain)
            flatten(chain, name, module)
        else:
            for child_name, child in module.named_children():
                walk(_join(name, child_name), child)

    def flatten(chain: Chain, name: str, sequential: nn.Module) -> None:
        for child_name, child in sequential._modules.items():
            if child is None:
                continue
            path = _join(name, child_name)
            if type(child) is nn.Sequential and not has_hooks(child):
                flatten(chain, path, child)
            else:
                chain.append((path, child))
                walk(path, child)

    walk("", model)
    return chains


def _link(chain: Chain, index: int, name: str, dropout: nn.Dropout) -> Link:
    link = Link(name, dropout)
    if has_hooks(dropout):
        link.reason = "it has hooks, which must see its result"
        return link
    for distance, (before_name, before) in enumerate(reversed(chain[:index])):
        if has_hooks(before):
            link.reason = f"'{before_name}' before it has hooks"
        elif type(before) is nn.Linear:
            link.producer = (before_name, before)
            between = chain[index - 1]
            if distance == 1 and type(between[1]) is nn.ReLU:
                link.relu = between[0], between[1]
        elif type(before) in _ZERO_AT_ZERO:
            continue
        break
    for position, (after_name, after) in enumerate(chain[index + 1 :]):
        if has_hooks(after):
            link.reason = f"'{after_name}' after it has hooks"
        elif type(after) is nn.Linear:
            link.consumer = (after_name, after)
            link.direct = position == 0
        elif _ZERO_AT_ZERO.get(type(after), False):
            continue
        break
    return link


def has_hooks(module: nn.Module) -> bool:
    """True where code of the user sees what a module reads or writes."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _join(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child
