"""Following: an optimizer whose steps advance a schedule, until the model is reverted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from dropgemm.torch.clock import Clock
from dropgemm.torch.schedule import Schedule


class _Following(NamedTuple):
    hook: RemovableHandle
    modules: WeakSet[nn.Module]  # those that read the clock


# Not on the clock itself, whose copies nobody advances.
_FOLLOWED: WeakKeyDictionary[Clock, _Following] = WeakKeyDictionary()


def follow(schedule: Schedule, optimizer: Optimizer, model: nn.Module) -> None:
    """Has each step of the optimizer advance the schedule of `model`."""
    hook = optimizer.register_step_post_hook(lambda *_: schedule.step())
    _FOLLOWED[schedule.clock] = _Following(hook, WeakSet(_readers(model.modules(), schedule.clock)))


def release(clock: Clock) -> None:
    """Takes the hook off the optimizer, where no module reads the clock any more."""
    following = _FOLLOWED.get(clock)
    if following is not None and not _readers(following.modules, clock):
        following.hook.remove()
        del _FOLLOWED[clock]


def _readers(modules: Iterable[nn.Module], clock: Clock) -> list[nn.Module]:
    return [module for module in modules if module._modules.get("clock") is clock]
