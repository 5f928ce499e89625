"""Handover: what one module of a chain leaves to the next."""

from __future__ import annotations

from typing import Any

import torch

_torch_c: Any = torch._C  # whose private functions carry no types


class Handover:
    """What one module left to the next, so that a module put in between or away is noticed."""

    def __init__(self, what: str, receiver: str, others: list[Handover]) -> None:
        """others: of the same model, this one included; one error closes them all."""
        self.what = what
        self.receiver = receiver
        self.others = others
        others.append(self)
        self.open = False
        self.recomputed = False  # given by a forward within a backward, which may stop anywhere

    def give(self) -> None:
        """RuntimeError where what was given in the last forward has not been taken."""
        if self.open and not self.recomputed:
            for handover in self.others:
                handover.open = False
            raise RuntimeError(
                f"{self.what}: expected {self.receiver} to run after the last training forward of "
                "the module before it, but it did not. Either an error ended that forward: run it "
                "again; or only part of the model ran, or a module of it was replaced: call "
                "revert(model), change it, and convert it again"
            )
        self.open = True
        self.recomputed = not torch.compiler.is_compiling() and _in_backward()

    def take(self) -> bool:
        """Whether something was given."""
        given, self.open = self.open, False
        return given


def _in_backward() -> bool:
    return bool(_torch_c._current_graph_task_id() >= 0)
