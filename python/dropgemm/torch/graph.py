"""Tracing: the forwards of a model as graphs of torch.fx, in which each value has its readers.

A forward is run once on symbolic values, as in training mode: no operation is computed, no hook
runs, and what the code changes on its modules is put back. A forward that cannot be traced, or that
might run otherwise the next time, becomes one opaque call in the graph that calls it, and the
modules inside it get graphs of their own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from dropgemm.torch.operations import is_known
from dropgemm.torch.symbolic import (
    Contents,
    NoWrites,
    Random,
    Value,
    as_in_training,
    callers,
    expected_truth,
    values_in,
)

# PyTorch's own modules whose forwards are looked into.
_OPEN = (nn.Sequential, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)

# Modules whose class convert changes: a call of their forward past __call__ would not be seen.
_CONVERTED = (nn.Linear, nn.Dropout, nn.ReLU)
_PAST_CALL = {kind.forward.__code__ for kind in _CONVERTED}
_APPLY: types.CodeType = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]


@dataclass
class Forward:
    """The forward of one module, in the order of its run."""

    name: str  # of the module in the model
    nodes: list[fx.Node]  # meta: "module" that is called, its "name", and the "owner" that calls
    kept: set[fx.Node]  # values that the code put somewhere, for whoever reads them there
    reached: set[int]  # ids of the modules that run in it
    opaque: list[nn.Module]  # those of them whose inside is not shown
    refused: dict[int, str]  # why, by id, where that was tried


@dataclass
class Graphs:
    """All forwards of a model that can be traced."""

    # Of each module that no other one shows: its forward without the arguments that have defaults
    # and with them, or with most of them, as far as it can be traced.
    forwards: list[list[Forward]] = field(default_factory=list)
    loose: Counter[int] = field(default_factory=Counter)  # by id: what code that is not seen holds
    refused: dict[int, str] = field(default_factory=dict)  # by id: why it could not be traced


@contextlib.contextmanager
def trace(model: nn.Module) -> Iterator[Graphs]:
    """Traces a model, as much of it as can be; the graphs are there until the end."""
    names = {id(module): name for name, module in model.named_modules()}
    graphs = Graphs()
    waiting, seen = [model], set[int]()
    # fx wraps the functions of math while it traces. An optimizer has imported this already; were a
    # forward the first to need it, it would take the wrappers for the functions, and keep them.
    importlib.import_module("torch._dynamo")
    with as_in_training(model):
        while waiting:
            root = waiting.pop(0)
            if is_known(root):
                graphs.loose[id(root)] += 1
            elif id(root) in names and id(root) not in seen:
                seen.add(id(root))
                found = _trace_root(root, names, graphs.refused)
                graphs.forwards.append(found)
                for module in {id(m): m for f in found for m in f.opaque}.values():
                    hooked = has_hooks(module) and module is not root
                    waiting += [module] if hooked else module.children()
                waiting += _unreached(root, set().union(*(f.reached for f in found)))
    try:
        yield graphs
    finally:
        # Whoever still holds a value of a forward is not to hold the model with it.
        for forward in (forward for found in graphs.forwards for forward in found):
            for node in forward.nodes:
                node.meta.clear()


def _trace_root(root: nn.Module, names: dict[int, str], refused: dict[int, str]) -> list[Forward]:
    required, optional = _arguments(root)
    choices = [required] + ([required + optional] if optional else [])
    runs = [_Tracer(root, names).run(choice) for choice in choices]
    if id(root) in runs[0].refused and len(optional) > 1:  # it cannot do without them: most of them
        choices = [[p for p in choices[1] if p is not left] for left in optional]
        runs += [_Tracer(root, names).run(choice) for choice in choices]
    usable = [run for run in runs if id(root) not in run.refused] or runs[:1]
    refused |= usable[0].refused
    return [run for run in usable if run.refused.keys() <= usable[0].refused.keys()]


def _arguments(root: nn.Module) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """The arguments of a forward that must be given, and those that may."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        given = inspect.signature(root.forward).parameters.values()
    except (TypeError, ValueError):
        return [], []  # which the call then refuses
    required = [p for p in given if p.default is p.empty and p.kind not in variable]
    return required, [p for p in given if p.default is not p.empty]


def _unreached(root: nn.Module, reached: set[int]) -> list[nn.Module]:
    """The outermost modules under `root` of which nothing runs in its forward."""
    outside: list[nn.Module] = []
    for child in root.children():
        if id(child) in reached:
            continue
        if any(id(module) in reached for module in child.modules()):
            outside += _unreached(child, reached)
        else:
            outside.append(child)
    return outside


class _Entry(nn.Module):
    """Calls a module with a symbolic value for each argument: what fx traces."""

    def __init__(
        self, tracer: _Tracer, module: nn.Module, arguments: list[inspect.Parameter]
    ) -> None:
        super().__init__()
        self.module = module
        self._tracer = tracer
        self._arguments = arguments

    def forward(self) -> Any:
        """The values in the module's result, which is held as its caller would hold it."""
        given: list[Any] = []
        named: dict[str, Any] = {}
        for argument in self._arguments:
            value = self._tracer.create_proxy("placeholder", argument.name, (), {})
            if argument.kind is inspect.Parameter.KEYWORD_ONLY or (
                argument.default is not argument.empty
                and argument.kind is not inspect.Parameter.POSITIONAL_ONLY
            ):
                named[argument.name] = value
            else:
                given.append(value)
        self.result = self.module(*given, **named)
        return values_in(self.result)


class _Tracer(fx.Tracer):
    """fx's, which looks into modules one at a time and takes the failure of one as its own."""

    proxy_buffer_attributes = True

    def __init__(self, root: nn.Module, names: dict[int, str]) -> None:
        super().__init__()
        self._start = root
        self._names = names
        self._refused: dict[int, str] = {}
        self._inside: list[nn.Module] = []
        self._reached: set[int] = set()
        self._opaque: list[nn.Module] = []
        self._values: list[weakref.ref[fx.Proxy]] = []

    def run(self, arguments: list[inspect.Parameter]) -> Forward:
        """The graph of the module's forward with these arguments."""
        before = [Contents(module) for module in self._start.modules()]
        state = Random()
        name = self._names[id(self._start)]
        collects = gc.isenabled()
        gc.disable()  # so that what is made here stays among the young
        try:
            entry = _Entry(self, self._start, arguments)
            with NoWrites():
                nodes = list(self.trace(entry).nodes)
            kept = self._held({value.node for value in values_in(entry.result)}) & set(nodes)
            return Forward(name, nodes, kept, self._reached, self._opaque, self._refused)
        except Exception as error:
            key, why = id(self._start), _first_line(error)
            return Forward(name, [], set(), {key}, [self._start], {key: why})
        finally:
            if collects:
                gc.enable()
            state.restore()
            for contents in before:
                contents.restore()
            vars(self).clear()  # values that somebody still holds have come here

    def _held(self, results: set[fx.Node]) -> set[fx.Node]:
        """The values that something still holds, besides the results."""
        if not self._alive() <= results:
            gc.collect(0)  # cycles that nobody holds
        return self._alive()

    def _alive(self) -> set[fx.Node]:
        return {value.node for value in (ref() for ref in self._values) if value is not None}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value, which is known again if the code keeps it."""
        value = Value(node, self)
        if node.op != "get_attr":  # the module holds those anyway
            self._values.append(weakref.ref(value))
        return value

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Notes whose code makes a node."""
        node = super().create_node(*args, **kwargs)
        node.meta["owner"] = self._names.get(id(self._inside[-1]), "") if self._inside else ""
        for frame in callers(_Tracer.call_module.__code__):
            if frame.f_code is _APPLY:
                raise TraceError("it has a derivative of its own, an autograd.Function")
            if frame.f_code in _PAST_CALL and type(frame.f_locals.get("self")) in _CONVERTED:
                raise TraceError("it calls the forward method of a module, not the module")
        return node

    def create_arg(self, a: Any) -> Any:
        """As fx does; a module as an argument would be called by code that is not seen."""
        if isinstance(a, nn.Module):
            raise TraceError("it passes a module to a function")
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Lets checks pass, and refuses other branches."""
        frame = inspect.currentframe()
        caller = frame.f_back.f_back if frame and frame.f_back else None
        truth = None if caller is None else expected_truth(caller)
        if truth is not None:
            return truth
        raise TraceError("it branches on a value or a shape")

    def iter(self, obj: fx.Proxy) -> Any:
        """Refuses."""
        raise TraceError("it iterates over a value")

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Looks into a module, or makes one node of the call."""
        if isinstance(m, _Entry):  # nothing
            return forward(*args, **kwargs)
        reached = set(self._reached)
        opaque, nodes = list(self._opaque), len(self.graph.nodes)
        if self._is_open(m):
            contents, state = Contents(m), Random()
            self._inside.append(m)
            try:
                # Not __call__, which would run hooks.
                result = m.forward(*args, **kwargs)
                self._check(contents, state)
                self._reached.add(id(m))
                return result
            except Exception as error:
                self._refused[id(m)] = _first_line(error)
            finally:
                self._inside.pop()
            contents.restore()
            state.restore()
            for node in reversed(list(self.graph.nodes)[nodes:]):
                if node.op != "get_attr":  # which the tracer keeps for others
                    self.graph.erase_node(node)
        if args and args[0] is None:
            raise TraceError(f"it gives None to a {type(m).__name__}")
        self._reached, self._opaque = reached | {id(m)}, opaque
        if not is_known(m):
            self._opaque.append(m)
        value = self.create_proxy("call_module", self._names.get(id(m), "?"), args, kwargs)
        value.node.meta |= {"module": m, "name": self._names.get(id(m))}
        return value

    def _is_open(self, module: nn.Module) -> bool:
        if module in self._inside or (has_hooks(module) and module is not self._start):
            return False
        if type(module) in _OPEN or isinstance(module, fx.GraphModule):
            return True
        return not is_known(module) and not type(module).__module__.startswith("torch.")

    def _check(self, contents: Contents, state: Random) -> None:
        """Refuses a forward that another time might take another way."""
        if state.moved():
            raise TraceError("it draws random numbers while it runs")
        for name, value in contents.changes():
            if not values_in(value):
                raise TraceError(f"it changes its attribute '{name}'")


def has_hooks(module: nn.Module) -> bool:
    """True where code of the user sees what a module reads or writes."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    text = lines[0][:120] if lines else ""
    if isinstance(error, TraceError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
