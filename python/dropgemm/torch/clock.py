"""Clock: the training step that every site of a model reads its masks from."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import distributed

from dropgemm.framework import NDArray
from dropgemm.torch.handover import Handover
from dropgemm.torch.ranks import Ranks
from dropgemm.torch.tracing import needs_operator

_Converts = Callable[[torch.Tensor], torch.Tensor]


class Clock(torch.nn.Module):
    """One optimizer-step counter for a whole model.

    A module that the dropout modules share, so that it follows the model through .to(), copies
    and pickles; its 0-d int64 buffer `step` is not in the model's state_dict (the schedule saves
    it). Only the schedule advances it: forward, evaluation and recomputation never do.

    process_group: the data-parallel ranks that train the model together; None is all of them.
    Sites say what that means for their masks (rank_policy).
    """

    step: torch.Tensor

    def __init__(self, process_group: distributed.ProcessGroup | None = None) -> None:
        super().__init__()
        # A tensor, so that one compiled step, or one captured graph, serves all calls of it. No
        # buffer, which DistributedDataParallel would make rank 0's.
        self.call = torch.zeros((), dtype=torch.int64)
        self.tables: list[torch.Tensor] = []  # what patterns are drawn from, beside the step
        self._values: list[NDArray] = []  # of the tables
        self.ranks = Ranks(process_group)
        self.total_steps: int | None = None  # of the schedules that read this clock
        self.handovers: list[Handover] = []  # between the modules of the model
        self.warned = False  # of subnets that the run will not use: once a model is enough
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def reset_parameters(self) -> None:
        """Back to step 0: what to_empty() needs, which leaves the buffer undefined."""
        self.step.zero_()
        self.call.zero_()
        for table, values in zip(self.tables, self._values, strict=True):
            table.copy_(torch.from_numpy(values))

    def hold(self, thresholds: NDArray) -> int:
        """The place in `tables` of a distribution, which from now on is where the step is."""
        for place, values in enumerate(self._values):
            if np.array_equal(values, thresholds.view(np.int64)):
                return place
        self._values.append(thresholds.view(np.int64).copy())
        self.tables.append(torch.from_numpy(self._values[-1]).to(self.step.device))
        return len(self.tables) - 1

    def _apply(self, fn: _Converts, recurse: bool = True) -> Clock:
        """What .to() and the like do to the buffer is done to what lies beside it."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.call = fn(self.call)
        self.tables = [fn(table) for table in self.tables]
        return self

    def advance(self) -> None:
        """One more step. Warns, once, where that is beyond what schedules were made for."""
        self.step += 1
        if self.total_steps is None or not self.step.is_cpu or needs_operator(self.step):
            return
        step, total = int(self.step), self.total_steps
        if step > total:
            self.total_steps = None
            warnings.warn(
                f"step {step}: expected at most total_steps={total} optimizer steps; from there on "
                "the last set of subnets is kept. Convert with the steps of the whole run as "
                "total_steps",
                UserWarning,
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        """The step, where it has a value."""
        return "" if self.step.is_meta else f"step={int(self.step)}"
