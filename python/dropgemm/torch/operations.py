"""What the nodes of a traced forward do: element-wise or not, in place or not, views or not.

Whatever is not known here counts as the worst: not element-wise, may write what it reads, and may
share its memory.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

from dropgemm.torch.symbolic import IN_PLACE_OPERATORS

# Element-wise modules by exact type, and whether they map 0 to 0.
_MODULES: dict[type[nn.Module], bool] = {
    nn.Identity: True, nn.ReLU: True, nn.ReLU6: True, nn.LeakyReLU: True, nn.PReLU: True,
    nn.ELU: True, nn.SELU: True, nn.CELU: True, nn.GELU: True, nn.SiLU: True, nn.Mish: True,
    nn.Hardswish: True, nn.Tanh: True, nn.Softsign: True, nn.Tanhshrink: True,
    nn.Softshrink: True, nn.Hardshrink: True,
    nn.Sigmoid: False, nn.Hardsigmoid: False, nn.LogSigmoid: False, nn.Softplus: False,
    nn.Hardtanh: False, nn.Threshold: False,
}  # fmt: skip

# The same of functions of torch and torch.nn.functional and of methods of tensors, by name.
_NAMES = {
    True: "relu relu_ relu6 leaky_relu leaky_relu_ prelu elu elu_ selu selu_ celu celu_ gelu silu "
    "mish hardswish tanh tanh_ softsign tanhshrink softshrink hardshrink neg neg_ abs abs_ square "
    "clone contiguous",
    False: "sigmoid sigmoid_ hardsigmoid logsigmoid softplus hardtanh hardtanh_ threshold "
    "threshold_ clamp clamp_ exp exp_",
}
_BY_NAME = {name: zero for zero, names in _NAMES.items() for name in names.split()}
_METHODS = {name: zero for name, zero in _BY_NAME.items() if hasattr(torch.Tensor, name)}
_FUNCTIONS: dict[Any, bool] = {
    getattr(space, name): zero
    for name, zero in _BY_NAME.items()
    for space in (torch, F)
    if hasattr(space, name)
} | {operator.neg: True, operator.abs: True}

# Arithmetic with a number: what maps 0 to 0 is a product with it, and a quotient by it.
_ARITHMETIC = ("add", "sub", "mul", "truediv", "div")

# Results in memory of their own. What nothing is known of may be a view.
_FRESH_MODULES = (
    nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d,
    nn.ConvTranspose2d, nn.ConvTranspose3d, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d,
    nn.BatchNorm2d, nn.BatchNorm3d, nn.Embedding, nn.MultiheadAttention,
)  # fmt: skip
_FRESH_FUNCTIONS: set[Any] = {
    *(getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "matmul", "pow")),
    torch.add, torch.sub, torch.mul, torch.div, torch.matmul, torch.bmm, torch.cat, torch.stack,
    F.linear, F.conv1d, F.conv2d, F.conv3d, F.layer_norm, F.softmax,
}  # fmt: skip

# Reading these is not reading the values.
_ABOUT = {"shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_cuda", "is_sparse"}
_ASKING = {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous",
    "is_floating_point", "get_device", "element_size",
}  # fmt: skip

# Functions that are known to write nothing but what their names and arguments say.
_KNOWN_SPACES = {
    "torch", "torch.functional", "torch.nn.functional", "torch._C._nn", "torch._C._linalg",
    "torch._C._fft", "torch._C._special", "_operator", "operator", "math", "builtins",
}  # fmt: skip

_OF_SEVERAL = (nn.MultiheadAttention, nn.RNNBase)  # modules that return tuples
_ANY_DROPOUT = nn.modules.dropout._DropoutNd
_DROPOUTS: set[Any] = {
    getattr(space, name)
    for space in (torch, F)
    for name in ("dropout", "dropout_", "alpha_dropout", "alpha_dropout_", "feature_dropout",
                 "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d")
    if hasattr(space, name)
}  # fmt: skip


def module_of(node: fx.Node) -> nn.Module | None:
    """The module that a node calls."""
    module: nn.Module | None = node.meta.get("module")
    return module


def argument(node: fx.Node) -> fx.Node | None:
    """The value that a node computes from, where it is one alone.

    Parameters do not count, nor does the number of its samples. Of an nn.LSTM it is the input.
    """
    listed = [*node.args, *node.kwargs.values()]
    if type(module_of(node)) is nn.LSTM:
        return _input_of_lstm(node)
    if node.op == "call_module" and len(listed) != 1:
        return None
    first = next((a for a in listed if isinstance(a, fx.Node) and a.op != "get_attr"), None)
    others = {n for n in node.all_input_nodes if n is not first and n.op != "get_attr"}
    if first is None or not all(_is_first_size(other, first) for other in others):
        return None
    return first if sum(a is first for a in listed) == 1 else None


def _input_of_lstm(node: fx.Node) -> fx.Node | None:
    states: list[fx.Node] = []
    fx.map_arg((node.args[1:], node.kwargs), states.append)  # type: ignore[arg-type]
    first = node.args[0] if node.args else None
    return first if isinstance(first, fx.Node) and first not in states else None


def element_wise(node: fx.Node) -> bool | None:
    """Whether an element-wise function of argument(node) maps 0 to 0; None: it is not one."""
    if argument(node) is None:
        return None
    if node.op == "call_module":
        return _MODULES.get(type(module_of(node)))  # type: ignore[arg-type]
    if node.op == "call_method":
        known = _METHODS.get(str(node.target))
    elif node.op == "call_function":
        known = _FUNCTIONS.get(node.target)
    else:
        return None
    if known is not None:
        weights = [a for a in node.all_input_nodes if a.op == "get_attr"]
        first = node.args[0] if node.args else None
        prelu = node.target in (torch.prelu, F.prelu, "prelu")
        return known if first is argument(node) and (prelu or not weights) else None
    return _with_a_number(node)


def _with_a_number(node: fx.Node) -> bool | None:
    name = node.target if node.op == "call_method" else _space(node)[1]
    stem = str(name).rstrip("_")
    if node.op == "call_function" and _space(node)[0] not in _KNOWN_SPACES:
        return None
    stem = stem.removeprefix("i") if stem in IN_PLACE_OPERATORS else stem
    if stem not in _ARITHMETIC or len(node.args) != 2 or node.kwargs:
        return None
    left, right = node.args
    number = left if isinstance(right, fx.Node) else right
    if not isinstance(number, (int, float)) or not math.isfinite(number):
        return None
    quotient = stem in ("truediv", "div") and not isinstance(right, fx.Node)
    return stem == "mul" or (quotient and number != 0)


def passes_on(node: fx.Node) -> bool:
    """True where the result is argument(node) itself, or a copy, in the same shape."""
    source = argument(node)
    if source is None:
        return False
    if type(module_of(node)) is nn.Identity or node.target in ("contiguous", "clone"):
        return True
    return bool(_flattens(node, source)) and _is_matrix(source)


def flattens(node: fx.Node) -> bool:
    """True where the result has two dimensions, whatever came."""
    source = argument(node) or (node.args[0] if node.args else None)
    return isinstance(source, fx.Node) and _flattens(node, source) is not None


def _is_matrix(node: fx.Node) -> bool:
    """True where a value has two dimensions."""
    while True:
        if flattens(node):
            return True
        same_rank = isinstance(
            module_of(node), (nn.Linear, nn.Dropout, nn.LayerNorm, nn.BatchNorm1d)
        )
        source = argument(node)
        if source is None or not (same_rank or element_wise(node) is not None):
            return False
        node = source


def _flattens(node: fx.Node, source: fx.Node) -> bool | None:
    """Whether a matrix stays what it was, of a node that makes one of anything; None: of others."""
    module = module_of(node)
    if type(module) is nn.Flatten:
        return True if (module.start_dim, module.end_dim) == (1, -1) else None
    name = node.target if node.op == "call_method" else _space(node)[1]
    if node.op not in ("call_method", "call_function") or not node.args:
        return None
    if node.op == "call_function" and node.target not in (torch.flatten, torch.reshape):
        return None
    if name == "flatten":
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        return True if given in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1}) else None
    if name in ("view", "reshape") and not node.kwargs:
        sizes: Any = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = sizes[0]
        if len(sizes) == 2:
            return bool(sizes[1] == -1 and _is_first_size(sizes[0], source))
    return None


def _is_first_size(size: Any, value: fx.Node) -> bool:
    """True for value.size(0) and value.shape[0]."""
    if not isinstance(size, fx.Node):
        return False
    if size.op == "call_method" and size.target == "size":
        return size.args == (value, 0)
    if size.target is not operator.getitem or size.args[1] != 0:
        return False
    shape = size.args[0]
    return isinstance(shape, fx.Node) and (
        (shape.target == "size" and shape.args == (value,))
        or (shape.target is getattr and shape.args == (value, "shape"))
    )


def is_about(node: fx.Node) -> bool:
    """True where a node reads a value's shape or kind, not its elements."""
    if node.op == "call_method":
        return node.target in _ASKING
    return node.target is getattr and node.args[1] in _ABOUT


def is_known(module: nn.Module) -> bool:
    """True for PyTorch's own modules without others inside, and dropouts of any class."""
    if isinstance(module, _ANY_DROPOUT):
        return True
    own = type(module).__module__.startswith("torch.nn.modules.")
    return own and (not module._modules or isinstance(module, nn.MultiheadAttention))


def writes(node: fx.Node) -> list[fx.Node]:
    """The values that a node may change in place."""
    inputs = node.all_input_nodes
    if node.op == "call_module":
        module = module_of(node)
        if module is None or not is_known(module):
            return inputs
        return inputs[:1] if getattr(module, "inplace", False) else []
    if node.op == "call_method":
        name = str(node.target)
        if name.startswith("__"):
            return inputs
        return inputs[:1] if name.endswith("_") else []
    if node.op != "call_function" or node.target is getattr:
        return []
    space, name = _space(node)
    if space not in _KNOWN_SPACES or name.endswith("_"):
        return inputs
    if name in IN_PLACE_OPERATORS or name == "setitem" or node.kwargs.get("inplace"):
        return inputs[:1]
    out = node.kwargs.get("out")
    return inputs if out is not None else []


def may_share(node: fx.Node) -> bool:
    """True where the result may lie in the memory of what the node reads."""
    if is_about(node) or node.op in ("placeholder", "get_attr", "output"):
        return False
    if writes(node):
        return True
    if type(module_of(node)) in _FRESH_MODULES:
        return False
    if node.op == "call_function" and node.target in _FRESH_FUNCTIONS:
        return False
    if type(module_of(node)) is nn.Identity or node.target == "contiguous":
        return True
    return element_wise(node) is None


def memory(nodes: list[fx.Node]) -> dict[fx.Node, set[fx.Node]]:
    """For each value of `nodes`, those that may lie in the same memory, itself among them."""
    groups: dict[fx.Node, set[fx.Node]] = {}
    for node in nodes:
        group = groups.setdefault(node, {node})
        for value in node.all_input_nodes if may_share(node) else ():
            other = groups.setdefault(value, {value})
            if other is not group and value.op != "get_attr":
                small, group = sorted((group, other), key=len)
                group |= small
                groups.update(dict.fromkeys(small, group))
    return groups


def function_dropout(node: fx.Node) -> str | None:
    """The name of the function where a node drops without a module."""
    if node.op != "call_function":
        return None
    given: dict[str, Any] = dict(zip(("p", "training"), node.args[1:], strict=False)) | node.kwargs
    name = _space(node)[1]
    if node.target in _DROPOUTS:
        drops = given.get("training", True) is not False and given.get("p", 0.5) != 0.0
    else:
        drops = node.target is F.scaled_dot_product_attention and given.get("dropout_p", 0.0) != 0.0
    return f"{'F' if hasattr(F, name) else 'torch'}.{name}" if drops else None


def _space(node: fx.Node) -> tuple[str, str]:
    """Module and name of the function of a node."""
    target: Callable[..., Any] | str = node.target
    return str(getattr(target, "__module__", "")), str(getattr(target, "__name__", ""))


def label(node: fx.Node) -> str:
    """What a node is called in a sentence."""
    if node.op == "call_module":
        kind = type(module_of(node)).__name__
        name = node.meta["name"]
        return f"a {kind}" if name is None else f"'{name}' ({kind})"
    if node.op == "call_method":
        return f".{node.target}()"
    if node.op == "call_function":
        if node.target is getattr:
            return f".{node.args[1]}"
        if node.target is operator.getitem and isinstance(node.args[1], int):
            source = node.args[0]
            if isinstance(source, fx.Node) and isinstance(module_of(source), _OF_SEVERAL):
                return label(source)
        return f"{_space(node)[1]}()"
    return {"placeholder": f"the input '{node.target}'", "output": "the result"}.get(
        node.op, f"'{node.target}'"
    )
