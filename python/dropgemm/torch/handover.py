"""Handover: what one module of a chain leaves to the next."""

from __future__ import annotations


class Handover:
    """What one module left to the next, so that a module put in between or away is noticed."""

    def __init__(self, what: str, receiver: str) -> None:
        self.what = what
        self.receiver = receiver
        self.open = False

    def give(self) -> None:
        """RuntimeError where what was given in the last forward has not been taken."""
        if self.open:
            self.open = False
            raise RuntimeError(
                f"{self.what}: expected {self.receiver} to run after the last training forward of "
                "the module before it, but it did not. Only part of the model ran, or a module of "
                "it was replaced: call revert(model), change it, and convert it again"
            )
        self.open = True

    def take(self) -> bool:
        """Whether something was given."""
        given, self.open = self.open, False
        return given
