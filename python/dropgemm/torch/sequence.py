"""Batches of sequences as matrices of rows, and one mask of a site over all of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dropgemm.framework import ceil_div
from dropgemm.tile_mask import TileMask
from dropgemm.torch import operands
from dropgemm.torch.functional import TORCH
from dropgemm.torch.site import Site


class Rows(NamedTuple):
    """Where the values of each step are in a matrix [total, features] of all samples and steps.

    Those of step t are the rows steps[t], a row for each of the first sizes[t] samples: samples are
    in the order of their lengths, the longest first.
    """

    total: int
    steps: tuple[slice, ...]
    sizes: tuple[int, ...]
    samples_first: bool = False  # a sample's rows lie together; else those of a step do

    @classmethod
    def of_batch(cls, length: int, batch: int, batch_first: bool) -> Rows:
        """Sequences of one length: [batch, length, ...] or [length, batch, ...]."""
        total = length * batch
        if batch_first:
            steps = tuple(slice(step, total, length) for step in range(length))
            return cls(total, steps, (batch,) * length, True)
        return cls.of_steps((batch,) * length)

    @classmethod
    def of_steps(cls, sizes: Sequence[int]) -> Rows:
        """One step after the other, as in a PackedSequence."""
        steps, start = [], 0
        for size in sizes:
            steps.append(slice(start, start + size))
            start += size
        return cls(start, tuple(steps), tuple(sizes))

    @property
    def batch(self) -> int:
        """How many samples there are."""
        return self.sizes[0]

    @property
    def length(self) -> int:
        """The steps of the longest."""
        return len(self.steps)

    def samples(self, device: torch.device) -> Tensor:
        """The sample of each row."""
        numbers = torch.empty(self.total, dtype=torch.int64, device=device)
        for rows, size in zip(self.steps, self.sizes, strict=True):
            numbers[rows] = torch.arange(size, device=device)
        return numbers

    def part(self, samples: slice) -> tuple[Tensor, Rows]:
        """The rows of some samples, by number and one step after the other, and their Rows."""
        numbers = torch.arange(self.total)
        listed = [numbers[rows][samples] for rows in self.steps]
        return torch.cat(listed), Rows.of_steps([len(rows) for rows in listed if len(rows)])

    def last(self, values: Tensor) -> Tensor:
        """[batch, features]: of each sample the row of its last step."""
        ends = (*self.sizes[1:], 0)
        listed = [
            values[rows][end:]
            for rows, size, end in zip(self.steps, self.sizes, ends, strict=True)
            if end < size
        ]
        return torch.cat(listed[::-1])


# Numbers of columns: a slice where they are regular, which is gathered several times faster.
Columns = Tensor | slice


class Group(NamedTuple):
    """Samples that share the neurons which a mask keeps."""

    samples: slice
    kept: Columns

    @property
    def keeps_all(self) -> bool:
        """True where nothing is dropped."""
        return self.kept == slice(None) if isinstance(self.kept, slice) else False


def take(values: Tensor, dim: int, kept: Columns) -> Tensor:
    """The rows, columns and so on with these numbers."""
    if isinstance(kept, Tensor):
        return values.index_select(dim, kept)
    return values[(*[slice(None)] * dim, kept)]


class SequenceMask:
    """What a site drops of a batch of sequences: the same at all steps of a sample.

    "row" has one pattern for the batch, "block" one for each group of whole samples, the others
    have one a sample.
    """

    def __init__(self, site: Site, rows: Rows, width: int) -> None:
        self._batch = rows.batch
        self._length = rows.length
        self._width = width
        self.skips = site.skips
        self._mask, scale = site.draw(rows.batch, rows.length if site.skips else 1, width)
        # What lies on a device stays there.
        self.scale = float(scale) if operands.on_host(self._mask.bits) else scale
        self._group = ceil_div(self._mask.tile[0], rows.length) if site.skips else 1

    @property
    def compacts(self) -> bool:
        """Whether what is dropped can be taken out of weights: the kept columns are read."""
        return self.skips and operands.on_host(self._mask.bits)

    @cached_property
    def elements(self) -> Tensor:
        """bool [batch, features]."""
        if self.skips:
            return self._kept.repeat_interleave(self._group, 0)[: self._batch]
        elements: Tensor = self._mask.to_dense()
        return elements

    @property
    def group_count(self) -> int:
        """How many groups there are; looks at no bits."""
        return ceil_div(self._batch, self._group)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of samples, of a mask that compacts."""
        starts = range(0, self._batch, self._group)
        return tuple(
            Group(slice(start, min(start + self._group, self._batch)), _columns(keep))
            for start, keep in zip(starts, self._kept, strict=True)
        )

    def over(self, rows: Rows, samples: slice | None = None) -> TileMask:
        """The mask [rows.total, features] over the rows of a batch, or of some of its samples."""
        first, end = (samples.start, samples.stop) if samples else (0, self._batch)
        below, above = first // self._group, ceil_div(end, self._group)
        bits, height = self._mask.bits[below:above], max(rows.total, 1)
        if above - below > 1:
            if rows.samples_first and first == below * self._group:
                height = self._group * self._length
            else:
                of_rows = (rows.samples(bits.device) + first) // self._group - below
                # PyTorch's operators know little of uint32.
                bits, height = bits.view(torch.int32)[of_rows].view(torch.uint32), 1
        return self._tiles(bits, rows.total, height)

    @cached_property
    def _kept(self) -> Tensor:
        """bool [groups, features]."""
        bits = self._mask.bits
        kept: Tensor = self._tiles(bits, bits.shape[0], 1).to_dense()
        return kept

    def _tiles(self, bits: Tensor, rows: int, height: int) -> TileMask:
        tile = height, self._mask.tile[1]
        return TileMask.trusted(bits, TORCH, (rows, self._width), tile, self._mask.keep_hint)


def _columns(keep: Tensor) -> Columns:
    """The numbers of the kept columns."""
    kept = keep.nonzero().squeeze(1)
    if len(kept) < 2:
        return kept
    first, second, last = int(kept[0]), int(kept[1]), int(kept[-1])
    regular = torch.arange(first, last + 1, second - first)
    return slice(first, last + 1, second - first) if torch.equal(kept, regular) else kept
