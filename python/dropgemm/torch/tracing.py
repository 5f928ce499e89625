"""When a call has to go through the dispatcher, and derivatives that are refused."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

# Types of tensors that an address describes.
PLAIN = (torch.Tensor, torch.nn.Parameter)
_torch_c: Any = torch._C  # whose private functions carry no types
_functorch_active: Any = _torch_c._are_functorch_transforms_active
_dispatch_modes: Any = _torch_c._len_torch_dispatch_stack
_jit_traced: Any = _torch_c._is_tracing


def functorch_active() -> bool:
    """True inside torch.func's grad, vjp, vmap and their like."""
    return bool(_functorch_active())


def needs_operator(*tensors: torch.Tensor | None) -> bool:
    """True where an address would not do: traced, transformed, with tangents, subclassed, lazily
    negated, not in the CPU's memory."""
    if (
        is_compiling()
        or _functorch_active()
        or _dispatch_modes() > 0
        or _jit_traced()
        or forward_ad._current_level >= 0
    ):
        return True
    for tensor in tensors:
        if tensor is not None and (
            type(tensor) not in PLAIN or not tensor.is_cpu or tensor.is_neg()
        ):
            return True
    return False


def short_apply(function: type[torch.autograd.Function]) -> Any:
    """function.apply for where needs_operator() is False: without what it does for torch.func,
    which is a third of its cost."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]


def refuse_forward_ad(*tensors: torch.Tensor | None) -> None:
    """Raises NotImplementedError under forward-mode AD, where an operator would give zeros."""
    if is_compiling():
        return
    dual = forward_ad._current_level >= 0 and any(
        t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors
    )
    if dual or any(
        interpreter.key() == torch._C._functorch.TransformType.Jvp
        for interpreter in _torch_c._functorch.get_interpreter_stack() or ()
    ):
        raise NotImplementedError(
            "forward-mode AD: dropgemm has reverse-mode derivatives only; use backward(), grad() "
            "or torch.func.vjp"
        )
