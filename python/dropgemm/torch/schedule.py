"""Schedule: what convert returns; advances a model's clock once an optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dropgemm.arrays import to_integer
from dropgemm.masks import CALL_END
from dropgemm.torch.clock import Clock
from dropgemm.torch.draws import PatternDraws
from dropgemm.torch.site import Site

_VERSION = 2


class Schedule:
    """The training steps of a converted model, used as a learning-rate scheduler is.

    step() is to be called once an optimizer step, after it; convert registers it with the
    optimizer it is given. state_dict() is saved beside the optimizer's: a run that loads both
    continues with identical masks. Two models converted alike have interchangeable states; any
    other state is refused. The world size is none of it: ranks may come and go between runs, and
    where the batches of all ranks together stay as large, so do all masks.
    """

    def __init__(
        self, clock: Clock, sites: list[Site], settings: dict[str, Any], report: list[str]
    ) -> None:
        self.clock = clock
        self.sites = sites
        self._settings = settings
        self._report = report

    def step(self) -> None:
        """Counts one optimizer step."""
        self.clock.advance()

    def state_dict(self) -> dict[str, Any]:
        """The step, and what the masks depend on besides."""
        return {"step": int(self.clock.step), **self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at the step of `state`.

        Raises ValueError where the state is of a schedule with other masks: names the setting,
        what this schedule has and what came.
        """
        expected = self._fingerprint()
        step = state.get("step") if isinstance(state, dict) else None
        if not isinstance(step, int) or step < 0:
            raise ValueError(
                "state: expected the state_dict() of a dropgemm schedule with a step >= 0, "
                f"got step {step!r}"
            )
        for name, value in expected.items():
            got = state.get(name)
            if _plain(got) != _plain(value):
                raise ValueError(
                    f"state: expected {name} {value!r} as this schedule has, got {got!r}: it "
                    "would continue with other masks; convert with the settings of the run that "
                    "is resumed"
                )
        self.clock.step.fill_(step)

    def report(self) -> str:
        """What was converted, what was not and why, a line each; which rank this is."""
        rank, world = self.clock.ranks.place()
        ranks = [f"rank {rank} of {world}, {self._settings['rank_policy']}"] if world > 1 else []
        return "\n".join(self._report + ranks)

    def _fingerprint(self) -> dict[str, Any]:
        return {"version": _VERSION, **self._settings, "sites": [_masks_of(s) for s in self.sites]}

    @contextmanager
    def call(self, index: int) -> Iterator[None]:
        """Within it, forwards are of this micro-batch or pass of the step; 0 without it.

        Row and tile patterns differ between the calls of a step, for R-Drop and the like; gyro's
        masks do not. Put the backward of a checkpointed forward into it as well.
        """
        call, number = self.clock.call, to_integer("index", index, 0, CALL_END)
        before = call.clone()
        call.fill_(number)
        try:
            yield
        finally:
            call.copy_(before)

    def __repr__(self) -> str:
        """The method and how far the run is."""
        return (
            f"Schedule(method={self._settings['method']!r}, step={int(self.clock.step)} of "
            f"{self._settings['total_steps']}, sites={len(self.sites)})"
        )


def _masks_of(site: Site) -> tuple[Any, ...]:
    """What the masks of a site depend on, besides the settings of all."""
    draws = site.draws
    periods = []
    if isinstance(draws, PatternDraws) and draws.distribution is not None:
        periods = draws.distribution.thresholds.tolist()
    return site.id, site.method, site.features, site.outputs, site.p, site.keep_rate, periods


def _plain(value: Any) -> Any:
    """Tuples as lists, which is what some formats make of them."""
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value
