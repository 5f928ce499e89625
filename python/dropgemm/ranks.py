"""Ranks of data-parallel training: which samples of the step's batch a mask is for."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from dropgemm.arrays import to_integer

RankPolicy = Literal["disjoint", "shared"]
RANK_POLICIES = get_args(RankPolicy)
_WORLD_END = 1 << 31


class Part(NamedTuple):
    """Samples first, first + 1, ... of a batch."""

    first: int
    batch: int


def part_of(samples: int, rank: int, world: int, policy: RankPolicy) -> Part:
    """Where the `samples` of a rank lie, every rank having as many; nothing is checked.

    "disjoint": the ranks' batches joined are one batch, in the order of the ranks. "shared": each
    rank's batch is a batch of its own, and all have the same masks.
    """
    return Part(0, samples) if policy == "shared" else Part(rank * samples, world * samples)


def to_part(samples: int, rank: object, world: object, policy: object) -> Part:
    """part_of() what a user says."""
    world = to_integer("world", world, 1, _WORLD_END)
    rank = to_integer("rank", rank, 0, world)
    check_policy(policy)
    return part_of(samples, rank, world, policy)  # type: ignore[arg-type]


def check_policy(policy: object) -> None:
    """Raises ValueError for what is no policy."""
    if policy not in RANK_POLICIES:
        raise ValueError(f"rank_policy: expected 'disjoint' or 'shared', got {policy!r}")
