"""Link: a dropout and the Linear layers beside it, as one traced forward proves them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from dropgemm.torch.graph import Forward, has_hooks
from dropgemm.torch.lstm import unsupported
from dropgemm.torch.operations import (
    argument,
    element_wise,
    flattens,
    is_about,
    label,
    memory,
    module_of,
    passes_on,
    writes,
)

Reader = nn.Linear | nn.LSTM
Named = tuple[str, nn.Linear]
NamedReader = tuple[str, Reader]


@dataclass
class Link:
    """A dropout and its neighbours, each with its name in the model.

    The dropout between two layers of an nn.LSTM is a link too: both its ends are the LSTM.
    """

    name: str
    dropout: nn.Dropout | nn.LSTM
    producer: Named | None = None  # its output is dropped here, and nothing else reads it
    consumer: NamedReader | None = None  # its input is zero where this drops
    layer: int = 0  # of an LSTM that reads: the layer whose input is dropped
    direct: bool = False  # the consumer reads the dropout's own result, and nothing else does
    relu: tuple[str, nn.ReLU] | None = None  # all that is between the producer and the dropout
    further: list[NamedReader] = field(default_factory=list)  # other consumers, where not direct
    producer_reason: str = ""  # why there is none
    consumer_reason: str = ""
    obstacle: str = ""  # what leaves the dropout without either
    refusal: str = ""  # why it must stay an nn.Dropout

    @property
    def rate(self) -> float:
        """The dropout's own."""
        return self.dropout.dropout if isinstance(self.dropout, nn.LSTM) else self.dropout.p

    @property
    def consumers(self) -> list[NamedReader]:
        """All layers whose input is zero where this drops."""
        return [self.consumer, *self.further] if self.consumer is not None else []

    @property
    def reason(self) -> str:
        """Why a neighbour is missing; empty where none is."""
        sides = "; ".join(why for why in (self.producer_reason, self.consumer_reason) if why)
        if self.obstacle or self.producer or self.consumer:
            return self.obstacle or sides
        return "no nn.Linear beside it can skip what it drops" + (f": {sides}" if sides else "")


def links_of(forward: Forward, repeated: Set[int]) -> dict[int, Link]:
    """The links of the dropouts in a forward, by id; `repeated` are modules that run twice."""
    finder = _Finder(forward, repeated)
    dropouts = [node for node in forward.nodes if type(module_of(node)) is nn.Dropout]
    return {id(module_of(node)): finder.link(node) for node in reversed(dropouts)}


def links_within(name: str, lstm: nn.LSTM) -> list[Link]:
    """Those between the layers of an LSTM."""
    return [
        Link(name, lstm, consumer=(f"{name} layer {layer}", lstm), layer=layer, direct=True)
        for layer in range(1, lstm.num_layers)
    ]


def _may_skip(node: fx.Node) -> bool:
    """True for a call of a layer that may skip what is dropped of its input."""
    module = module_of(node)
    if type(module) is nn.LSTM:
        return not unsupported(module)
    return type(module) is nn.Linear


class _Finder:
    """Walks from a dropout to the Linear layers, and says what ends the walk."""

    def __init__(self, forward: Forward, repeated: Set[int]) -> None:
        self._nodes = forward.nodes
        self._kept = forward.kept
        self._repeated = repeated
        self._order = {node: number for number, node in enumerate(forward.nodes)}
        self._memory = memory(forward.nodes)
        self._writers = [node for node in forward.nodes if writes(node)]
        self._root = f"'{forward.name}'" if forward.name else "the model"

    def link(self, node: fx.Node) -> Link:
        """The neighbours of the dropout that `node` calls."""
        dropout: Any = module_of(node)
        link = Link(node.meta["name"], dropout)
        if has_hooks(dropout):
            link.obstacle = "it has hooks, which must see its result"
            return link
        source = argument(node)
        if source is None:
            link.obstacle = "it is not called with one value of the forward"
            return link
        if dropout.inplace:
            link.refusal = self._overwritten(node, source)
        link.producer_reason = self._find_producer(link, node, source)
        link.consumer_reason = self._find_consumers(link, node)
        return link

    def _find_producer(self, link: Link, dropout: fx.Node, value: fx.Node) -> str:
        reader, between = dropout, list[fx.Node]()
        while True:
            if value.op == "placeholder":
                return f"its input is that of {self._root}"
            is_linear = type(module_of(value)) is nn.Linear and argument(value) is not None
            if isinstance(module_of(value), nn.Dropout):
                return f"{label(value)} before it has a mask of its own"
            if not (is_linear or element_wise(value) is not None or passes_on(value)):
                return f"{label(value)} before it is not element-wise"
            refusal = self._refusal(value, is_linear) or self._read_elsewhere(value, reader)
            if refusal:
                return f"{label(value)} before it {refusal}"
            if is_linear:
                break
            between.append(value)
            following = argument(value)
            assert following is not None
            value, reader = following, value
        link.producer = (value.meta["name"], value.meta["module"])
        if len(between) == 1 and type(module_of(between[0])) is nn.ReLU:
            relu = between[0].meta
            if relu["name"] is not None and id(relu["module"]) not in self._repeated:
                link.relu = relu["name"], relu["module"]
        return ""

    def _find_consumers(self, link: Link, dropout: fx.Node) -> str:
        reasons: list[str] = []
        consumers: list[fx.Node] = []
        waiting, sole = [dropout], True
        while waiting:
            value = waiting.pop(0)
            readers = self._readers(value)
            sole = sole and len(readers) == 1 and value not in self._kept
            for reader in readers:
                is_linear = _may_skip(reader) and argument(reader) is value
                zero = element_wise(reader)
                refusal = self._refusal(reader, is_linear)
                if is_linear and not refusal:
                    refusal = self._changed(dropout, reader)
                if reader.op == "output":
                    reasons.append(f"its result is that of {self._root}")
                elif refusal:
                    reasons.insert(0, f"{label(reader)} after it {refusal}")
                elif is_linear:
                    consumers.append(reader)
                elif zero or passes_on(reader):
                    sole = sole and passes_on(reader)
                    waiting.append(reader)
                elif zero is False:
                    reasons.append(f"{label(reader)} after it makes something else of 0")
                elif isinstance(module_of(reader), nn.Dropout):
                    reasons.append(f"{label(reader)} after it has a mask of its own")
                elif flattens(reader):
                    reasons.append(f"{label(reader)} after it may join dimensions: drop behind it")
                else:
                    reasons.append(f"{label(reader)} after it is not element-wise")
        if not consumers:
            return reasons[0] if reasons else "nothing reads its result"
        consumers.sort(key=self._order.__getitem__)
        direct = sole and len(consumers) == 1 and not self._written_later(dropout)
        # An LSTM masks by itself, as its samples need not be the first dimension.
        masking = [node for node in consumers if type(module_of(node)) is nn.LSTM]
        if masking and not direct:
            consumers = [node for node in consumers if node not in masking]
            if not consumers:
                return f"{label(masking[0])} after it is not all that reads its result"
        link.direct = direct
        link.consumer, *link.further = [(n.meta["name"], n.meta["module"]) for n in consumers]
        return ""

    def _readers(self, value: fx.Node) -> list[fx.Node]:
        return [user for user in value.users if not is_about(user)]

    def _read_elsewhere(self, value: fx.Node, reader: fx.Node) -> str:
        for other in self._readers(value):
            if other.op == "output":
                return "is also a result"
            if other is not reader:
                return f"is also read by {label(other)}"
        return "is also kept by the code" if value in self._kept else ""

    def _refusal(self, node: fx.Node, is_linear: bool) -> str:
        """Why a module cannot be one of a link's, or between two of them."""
        module = module_of(node)
        if module is None:
            return ""
        if has_hooks(module):
            return "has hooks"
        if is_linear and node.meta["name"] is None:
            return "is no part of the model"
        if is_linear and id(module) in self._repeated:
            return "is called at more than one place"
        return ""

    def _changed(self, dropout: fx.Node, reader: fx.Node) -> str:
        """Whether something is written over the zeros before `reader` gets them."""
        start, end = self._order[dropout], self._order[reader]
        writers = [w for w in self._writers if start < self._order[w] < end and not element_wise(w)]
        groups = memory(self._nodes[start + 1 : end]) if writers else {}
        value = argument(reader)
        while writers and value is not None:
            zeros = groups.get(value, {value})
            for writer in writers:
                if not zeros.isdisjoint(writes(writer)):
                    return f"reads what {label(writer)} has changed in place"
            value = argument(value) if value is not dropout else None
        return ""

    def _written_later(self, dropout: fx.Node) -> bool:
        """Whether the dropout's input is changed in place once it has been read."""
        return any(
            self._order[writer] > self._order[dropout]
            and not self._memory[dropout].isdisjoint(writes(writer))
            for writer in self._writers
        )

    def _overwritten(self, dropout: fx.Node, source: fx.Node) -> str:
        """Who reads what a dropout in place has changed, other than through its result."""
        start = self._order[dropout]
        for value in memory(self._nodes[:start])[source]:
            for reader in self._readers(value):
                if self._order[reader] > start:
                    return f"it works in place, and {label(reader)} reads its input afterwards"
            if value in self._kept:
                return "it works in place on a value that the code keeps"
        return ""
