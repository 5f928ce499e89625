"""Ranks: where this process stands among those that train a model together."""

from __future__ import annotations

from typing import Any

from torch import distributed

from dropgemm.ranks import Part, RankPolicy, part_of

_AVAILABLE = distributed.is_available()
_GROUP = distributed.ProcessGroup if _AVAILABLE else ()
# What new_group gives a process that is not in the group: a number, at times.
_OUTSIDE: object = distributed.GroupMember.NON_GROUP_MEMBER if _AVAILABLE else None


class Ranks:
    """The rank in a process group, asked anew for every mask; without one, rank 0 of 1.

    Numbers of the process, which are arguments of masks and in no buffer: those go through
    state_dicts, and DistributedDataParallel overwrites them with rank 0's. Nor does anything keep
    them from one forward to the next, so that a run may continue in a world of another size.

    group: whose ranks share a step's batch; None is that of all processes.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        """TypeError for what is no process group."""
        if not (group is None or group == _OUTSIDE or isinstance(group, _GROUP)):
            raise TypeError(
                "process_group: expected a torch.distributed.ProcessGroup, as new_group() and "
                f"mesh.get_group() give it, got {group!r}"
            )
        self.group = group

    def place(self) -> tuple[int, int]:
        """(rank, world size). ValueError for a process outside of the group."""
        if not (_AVAILABLE and distributed.is_initialized()):
            return 0, 1
        rank = distributed.get_rank(self.group)
        if rank < 0:
            raise ValueError(
                "process_group: expected one that this process belongs to, got one of other ranks"
            )
        return rank, distributed.get_world_size(self.group)

    def part(self, samples: int, policy: RankPolicy) -> Part:
        """The part of the step's batch that this rank's `samples` are."""
        return Part(0, samples) if policy == "shared" else part_of(samples, *self.place(), policy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """The same: a process group has no copies."""
        return self
