"""Clock: the training step that every site of a model reads its masks from."""

from __future__ import annotations

import torch

from dropgemm.torch.handover import Handover


class Clock(torch.nn.Module):
    """One optimizer-step counter for a whole model.

    A module that the dropout modules share, so that it follows the model through .to(), copies
    and pickles; its 0-d int64 buffer `step` is not in the model's state_dict (the schedule saves
    it). Only the schedule advances it: forward, evaluation and recomputation never do.
    """

    step: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.call = 0
        self.handovers: list[Handover] = []  # between the modules of the model
        self.warned = False  # of subnets that the run will not use: once a model is enough
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def reset_parameters(self) -> None:
        """Back to step 0: what to_empty() needs, which leaves the buffer undefined."""
        self.step.zero_()

    def advance(self) -> None:
        """One more step."""
        self.step += 1

    def extra_repr(self) -> str:
        """The step, where it has a value."""
        return "" if self.step.is_meta else f"step={int(self.step)}"
