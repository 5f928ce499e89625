"""Running a forward on symbolic values: what they record, and what must not come of it.

Beyond torch.fx's own proxies, these record writes in place (x += y, x[0] = y) and refuse questions
whose answer would be another one for a tensor. The rest notices what would make one run of a
forward no proof for the next, and puts it back: attributes, writes to tensors, random numbers.
"""

from __future__ import annotations

import collections
import contextlib
import dis
import operator
import pickle
import random
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.overrides import TorchFunctionMode

IN_PLACE_OPERATORS = (
    "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior",
    "ixor", "ilshift", "irshift",
)  # fmt: skip

_OWN = ("tracer", "node", "root", "attr", "_node")  # attributes of fx's proxies


class Value(fx.Proxy):
    """A value of a traced forward."""

    def __getattr__(self, name: str) -> Attribute:
        frame = sys._getframe(1)
        asks = {"hasattr", "getattr"} & {*frame.f_code.co_names}
        if asks and not hasattr(torch.Tensor, name) and not _is_library(frame):
            raise TraceError(f"it asks whether a value has '{name}'")
        return Attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _OWN:
            raise TraceError(f"it sets the attribute '{name}' of a tensor")
        object.__setattr__(self, name, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    @property
    def __class__(self) -> Any:
        # isinstance(x, torch.Tensor) is false here and true of what will come: no such branch is
        # to be taken. PyTorch's own code asks too, and copes with proxies.
        code = sys._getframe(1).f_code
        if code is torch.is_tensor.__code__ or (
            "isinstance" in code.co_names and not _is_library(sys._getframe(1))
        ):
            raise TraceError("it asks for the type of a value")
        return type(self)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TraceError("it changes the class of a value")


class Attribute(Value, fx.proxy.Attribute):
    """An attribute or a method of a value."""

    def __init__(self, root: fx.Proxy, attr: str) -> None:
        fx.proxy.Attribute.__init__(self, root, attr)


def _in_place(name: str) -> Any:
    def record(self: Value, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return record


for _name in IN_PLACE_OPERATORS:
    setattr(Value, f"__{_name}__", _in_place(_name))


def _is_library(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).split(".")[0] in ("torch", "dropgemm")


def expected_truth(frame: types.FrameType) -> bool | None:
    """What the condition that a frame is at has to be lest it raise an error; None: either will do.

    Of `assert x` that is True, of `if x: raise ValueError` False.
    """
    skipped = ("CACHE", "EXTENDED_ARG", "TO_BOOL", "NOT_TAKEN")
    code = [i for i in dis.get_instructions(frame.f_code) if i.opname not in skipped]
    here = next((n for n, i in enumerate(code) if i.offset >= frame.f_lasti), len(code) - 1)
    jump = code[here]
    if "IF_TRUE" not in jump.opname and "IF_FALSE" not in jump.opname:
        return None
    jumps_on = "IF_TRUE" in jump.opname
    if _raises(code[here + 1 :]):
        return jumps_on
    return not jumps_on if _raises([i for i in code if i.offset >= jump.argval]) else None


def _raises(code: list[dis.Instruction]) -> bool:
    """Whether instructions raise an error before they branch or return."""
    for instruction in code:
        if instruction.opname == "RAISE_VARARGS":
            return True
        if any(word in instruction.opname for word in ("JUMP", "RETURN", "YIELD", "FOR_ITER")):
            return False
    return False


def callers(stop: types.CodeType) -> Iterator[types.FrameType]:
    """The frames of those who called the caller, up to a call of `stop`."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not stop:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


_CONTAINERS = (dict, collections.OrderedDict, list, set)


class Contents:
    """The attributes of a module, and what is in the lists, dicts and sets among them."""

    def __init__(self, module: nn.Module) -> None:
        top: Any = vars(module)
        self._saved = [(c, _entries(c)) for c in (top, *top.values()) if type(c) in _CONTAINERS]

    def changes(self) -> Iterator[tuple[Any, Any]]:
        """Names or places and new values of what is not as it was."""
        for container, before in self._saved:
            now = _entries(container)
            for key in [*now, *(key for key in before if key not in now)]:
                if not (key in now and key in before and _same(now[key], before[key])):
                    yield key, now.get(key)

    def restore(self) -> None:
        """Puts back what has changed."""
        if any(True for _ in self.changes()):
            for container, before in self._saved:
                container.clear()
                if isinstance(container, list):
                    container.extend(before.values())
                else:
                    container.update(before)


def _entries(container: Any) -> dict[Any, Any]:
    if isinstance(container, dict):
        return dict(container)
    if isinstance(container, list):
        return dict(enumerate(container))
    return {element: element for element in container}


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) in _CONTAINERS:
        return not a and not b
    return type(a) in (int, float, bool, str) and bool(a == b)


def values_in(thing: Any) -> list[fx.Proxy]:
    """The symbolic values in a result of lists, tuples and dicts."""
    if issubclass(type(thing), fx.Proxy):
        return [thing]
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, (list, tuple, set)):
        return [value for part in thing for value in values_in(part)]
    return []


class Random:
    """The state of the generators that a forward may draw from."""

    def __init__(self) -> None:
        self._torch, self._python, self._numpy = self._now()
        self._bytes = self._dump()

    def moved(self) -> bool:
        """Whether something was drawn."""
        return self._dump() != self._bytes

    def restore(self) -> None:
        """Puts the generators back."""
        if self.moved():
            torch.set_rng_state(self._torch)
            random.setstate(self._python)
            np.random.set_state(self._numpy)  # noqa: NPY002 (the one that legacy code draws from)

    @staticmethod
    def _now() -> tuple[torch.Tensor, Any, Any]:
        numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
        return torch.get_rng_state(), random.getstate(), numpy_state

    def _dump(self) -> bytes:
        state, *others = self._now()
        return pickle.dumps((state.numpy(), others))


class NoWrites(TorchFunctionMode):
    """Refuses to change tensors that are no symbolic values: those are the model's."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Calls the function, or raises TraceError."""
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", "")).strip("_")
        in_place = (
            getattr(func, "__name__", "").endswith("_") and not func.__name__.startswith("__")
        ) or name in (*IN_PLACE_OPERATORS, "setitem", "set")
        for target in (*(args[:1] if in_place else ()), kwargs.get("out")):
            if issubclass(type(target), torch.Tensor):
                raise TraceError("it changes a tensor in place")
        return func(*args, **kwargs)


@contextlib.contextmanager
def as_in_training(model: nn.Module) -> Iterator[None]:
    """Every module in training mode and no way past them, until the end, when all is as before."""
    flags = [(module, module.training) for module in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        for module, _ in flags:
            module.training = True
        # nn.TransformerEncoderLayer asks for shapes where it might take it; training never does.
        torch.backends.mha.set_fastpath_enabled(False)
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in flags:
            module.training = training
