"""Finding the dropouts of a model, and the Linear layers that may skip what they drop.

A Linear is linked to a dropout where the traced forward (graph.py) proves it: between the two there
are only element-wise operations (operations.py), and nothing reads what would not be computed. The
dropouts within an nn.LSTM need no proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from dropgemm.torch.graph import Graphs, trace
from dropgemm.torch.link import Link, links_of, links_within
from dropgemm.torch.lstm import unsupported
from dropgemm.torch.operations import argument, function_dropout, label, module_of

Refused = list[tuple[str, str]]


def find_links(model: nn.Module) -> tuple[list[Link], Refused]:
    """The dropouts that one place of a forward calls, and (name, why not) of all others.

    In the order of model.named_modules(). Forwards run once, on symbolic values; the model is not
    changed.
    """
    with trace(model) as graphs:
        return _find(model, graphs)


def _find(model: nn.Module, graphs: Graphs) -> tuple[list[Link], Refused]:
    shared = shared_modules(model)
    # Those with several names are left to convert, which refuses them.
    repeated = {key for key, number in _calls(graphs).items() if number > 1} - shared.keys()
    found: dict[int, Link] = {}
    for forwards in graphs.forwards:
        proved = [links_of(forward, repeated) for forward in forwards]
        for key in dict.fromkeys(key for links in proved for key in links):
            found.setdefault(key, _agreed([links.get(key) for links in proved]))
    functions = _functions(graphs)

    chosen: list[Link] = []
    others: Refused = []
    for name, module in model.named_modules():
        reasons = functions.get(name, []) + list(_of_another_kind(module))
        if type(module) is nn.Dropout:
            link = found.get(id(module))
            if link is None:
                reasons.append(_why_unseen(model, name, graphs))
            elif id(module) in repeated:
                reasons.append(_why_repeated(graphs, module))
            elif link.refusal:
                reasons.append(link.refusal)
            else:
                chosen.append(link)
        elif type(module) is nn.LSTM and not unsupported(module) and module.dropout > 0.0:
            chosen += links_within(name, module)
        others += [(name or "the model", reason) for reason in reasons]
    return chosen, others


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


def _calls(graphs: Graphs) -> Counter[int]:
    """How often each module may run, by id."""
    total = Counter(graphs.loose)
    for forwards in graphs.forwards:
        most: Counter[int] = Counter()
        for forward in forwards:
            most |= Counter(
                id(module_of(node)) for node in forward.nodes if node.op == "call_module"
            )
        total += most
    return total


def _agreed(links: list[Link | None]) -> Link:
    """What holds with and without the optional arguments of a forward."""
    first, *rest = [link for link in links if link is not None]
    without = len(rest) + 1 < len(links)
    why = "it does not hold for every choice of optional arguments"
    if without or any(link.producer != first.producer for link in rest):
        first.producer, first.relu, first.producer_reason = None, None, why
    if without or any(link.consumer != first.consumer for link in rest):
        first.consumer, first.further, first.consumer_reason = None, [], why
    if without or any(link.relu != first.relu for link in rest):
        first.relu = None
    first.further = [pair for pair in first.further if all(pair in link.further for link in rest)]
    first.direct = all(link is not None and link.direct for link in links)
    first.direct = first.direct and first.consumer is not None
    first.refusal = next((link.refusal for link in (first, *rest) if link.refusal), "")
    return first


def _functions(graphs: Graphs) -> dict[str, list[str]]:
    """Calls of dropout functions, as reasons, by the name of the module whose forward has them."""
    calls: dict[str, list[str]] = {}
    for forwards in graphs.forwards:
        for node in forwards[0].nodes:
            name = function_dropout(node)
            if name is not None:
                what = "where there is no module to convert"
                if name.endswith(".dropout"):
                    what = "where an nn.Dropout would be converted"
                calls.setdefault(node.meta["owner"], []).append(f"its forward calls {name}, {what}")
    return calls


def _of_another_kind(module: nn.Module) -> Iterator[str]:
    """Why a module that drops by itself is left alone."""
    kind = type(module).__name__
    if type(module) is nn.Dropout:
        return
    if isinstance(module, nn.Dropout):
        yield f"{kind} is a subclass of nn.Dropout, and may do something else; use nn.Dropout"
    elif isinstance(module, nn.modules.dropout._DropoutNd):
        yield f"{kind} is no nn.Dropout, which alone is converted"
    elif type(module) is nn.LSTM:
        reason = unsupported(module)
        if reason and module.dropout > 0.0:
            yield f"LSTM drops inside, and is not converted; {reason}"
    elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)) and module.dropout > 0.0:
        yield f"{kind} drops inside, where there is no module to convert; it keeps its dropout"


def _why_repeated(graphs: Graphs, dropout: nn.Module) -> str:
    behind = [
        label(source)
        for forwards in graphs.forwards
        for node in forwards[0].nodes
        if module_of(node) is dropout and (source := argument(node)) is not None
    ]
    places = f", behind {' and '.join(behind)}" if len(behind) > 1 else ""
    return f"it is called at more than one place{places}; give each an nn.Dropout of its own"


def _why_unseen(model: nn.Module, name: str, graphs: Graphs) -> str:
    """Which forward could not be traced, where a dropout is in no graph."""
    while name:
        name = name.rpartition(".")[0]
        owner = model.get_submodule(name)
        why = graphs.refused.get(id(owner))
        if why is not None and not isinstance(owner, (nn.ModuleList, nn.ModuleDict)):
            who = f"'{name}'" if name else "the model"
            return (
                "it is in no nn.Sequential, so what reads it is not known: the forward of "
                f"{who} ({type(owner).__name__}) could not be traced, as {why}"
            )
    return "no traced forward calls it"
