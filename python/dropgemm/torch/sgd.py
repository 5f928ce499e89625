"""SGD: torch.optim.SGD with an update that leaves alone what a dropped gradient does not move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.sgd import sgd

from dropgemm import _core
from dropgemm.torch import operands
from dropgemm.torch.tracing import PLAIN, needs_operator

_TAKEN = (torch.float32, torch.float64)


class SGD(torch.optim.SGD):
    """torch.optim.SGD, the same update to rounding, in one pass over memory.

    Without momentum and weight decay, weights whose gradient is 0 are neither read nor written: in
    a converted model most of them, each step. With several threads, weights are written around the
    caches, which all of them have filled with copies while they multiplied.

    For any model, converted or not. Gradients are read in step() and are anybody's until then:
    clipping, accumulation, hooks, torch.amp.GradScaler and learning-rate schedulers work as ever,
    and state_dicts are torch.optim.SGD's, either way. Parameters that are not contiguous float32 or
    float64 tensors on the CPU or a CUDA device, and steps that are traced, get PyTorch's own
    update.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float | Tensor = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, maximize=maximize)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], Any] | None = None
    ) -> Any:
        """One update of every parameter that has a gradient; returns what closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if not _traced(group):
                options = _options(group)
                moved = [(p, grad) for p, grad in moved if not self._update(p, grad, options)]
            if moved:
                self._update_by_torch(group, *zip(*moved, strict=True))
        return loss

    def _update(self, param: Tensor, grad: Tensor, options: dict[str, Any]) -> bool:
        """Updates one parameter in the core; False where the core does not take it."""
        w, g = _vector(param, param.dtype), _vector(grad, param.dtype)
        if w is None or g is None:
            return False
        if options["momentum"] == 0.0:
            _core.sgd(w, g, None, **options, stream=operands.stream(param))
            increment_version(param)
            return True
        state = self.state[param]
        buffer = state.get("momentum_buffer")
        first = buffer is None
        if buffer is None:
            buffer = torch.empty_like(param, memory_format=torch.contiguous_format)
        v = _vector(buffer, param.dtype)
        if v is None:
            return False
        _core.sgd(w, g, v, **options, first=first, stream=operands.stream(param))
        state["momentum_buffer"] = buffer
        increment_version((param, buffer))
        return True

    def _update_by_torch(
        self, group: dict[str, Any], params: Sequence[Tensor], grads: Sequence[Tensor]
    ) -> None:
        buffers = []
        if group["momentum"] != 0:
            buffers = [self.state[p].get("momentum_buffer") for p in params]
        sgd(
            list(params), list(grads), buffers, any(grad.is_sparse for grad in grads),
            weight_decay=group["weight_decay"], momentum=group["momentum"], lr=group["lr"],
            dampening=group["dampening"], nesterov=group["nesterov"], maximize=group["maximize"],
        )  # fmt: skip
        for param, buffer in zip(params, buffers, strict=False):
            self.state[param]["momentum_buffer"] = buffer


def _traced(group: dict[str, Any]) -> bool:
    """Whether the update has to be made of operators, or of numbers that gradients flow to."""
    tensors = [group[name] for name in ("lr", "weight_decay") if isinstance(group[name], Tensor)]
    return needs_operator() or any(t.requires_grad or not t.is_cpu for t in tensors)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """The group's settings of this moment, as the core takes them."""
    numbers = ("lr", "momentum", "dampening", "weight_decay")
    return {
        **{name: float(group[name]) for name in numbers},
        "nesterov": bool(group["nesterov"]),
        "maximize": bool(group["maximize"]),
    }


def _vector(tensor: Tensor, dtype: torch.dtype) -> tuple[int, ...] | None:
    """A contiguous tensor as the core takes it; None for what an address does not describe."""
    if (
        type(tensor) not in PLAIN
        or tensor.dtype != dtype
        or dtype not in _TAKEN
        or not (tensor.is_cpu or tensor.is_cuda)
        or tensor.layout != torch.strided
        or not tensor.is_contiguous()
        or tensor.is_neg()
    ):
        return None
    return (tensor.data_ptr(), operands.DTYPES[dtype], tensor.numel(), 1)
