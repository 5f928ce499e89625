"""Where contenders run and how they are timed: by the host's clock, or by events on a GPU.

Sets, contenders and figures do not know the difference: tests measure a GPU's sets on the CPU.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

Run = Callable[[], object]

FLUSHED_CACHES = 4  # times the second-level cache: what is overwritten before a timed run
WARM_RUNS = 3  # before a capture, as PyTorch asks for: what allocates or compiles has done so
CLOCKS = {
    "driver": "driver_version", "sm_clock_mhz": "clocks.sm", "max_sm_clock_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem", "power_limit_w": "power.limit", "celsius": "temperature.gpu",
}  # fmt: skip


class Device(Protocol):
    """Where tensors lie, and what a run of something costs there."""

    place: str  # as PyTorch calls it
    replays: bool  # graphs

    def prepared(self, run: Run, *, graph: bool) -> Run:
        """The run as it is to be timed, once tried."""

    def seconds(self, run: Run) -> float:
        """How long one run takes."""

    def describe(self) -> dict[str, Any]:
        """What a machine's record says of it, beside the processor."""


class Host:
    """The CPU: its clock, and caches as the run before left them."""

    place = "cpu"
    replays = False

    def prepared(self, run: Run, *, graph: bool) -> Run:
        """As it is."""
        assert not graph
        return run

    def seconds(self, run: Run) -> float:
        """By the clock."""
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def describe(self) -> dict[str, Any]:
        """Nothing more."""
        return {}


class Gpu:
    """The current CUDA device.

    Time is that between two events on the current stream. Before the first the second-level cache
    is overwritten: nobody finds operands of the run before, and the host gets ahead of the device.
    """

    place = "cuda"
    replays = True

    def __init__(self) -> None:
        """Raises ValueError where PyTorch sees no GPU."""
        if not torch.cuda.is_available():
            raise ValueError("--device: expected cpu, since PyTorch sees no GPU, got cuda")
        self._about = torch.cuda.get_device_properties(torch.cuda.current_device())
        size = FLUSHED_CACHES * self._about.L2_cache_size
        self._flushed = torch.empty(size, dtype=torch.int8, device=self.place)
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def prepared(self, run: Run, *, graph: bool) -> Run:
        """The replay of a graph of it, where one is asked for."""
        # On the stream of later calls, as autograd stays where it began; of a graph on another.
        stream = torch.cuda.Stream() if graph else torch.cuda.current_stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            for _ in range(WARM_RUNS):
                run()
        torch.cuda.synchronize()
        if not graph:
            return run
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            run()
        captured.replay()
        torch.cuda.synchronize()
        return captured.replay

    def seconds(self, run: Run) -> float:
        """By events."""
        self._flushed.zero_()
        self._begin.record()
        run()
        self._end.record()
        self._end.synchronize()
        return 1e-3 * self._begin.elapsed_time(self._end)

    def describe(self) -> dict[str, Any]:
        """The chip, its driver, and its clocks as they are after a load."""
        chip = f"{self._about.major}.{self._about.minor}"
        found = {"gpu": self._about.name, "capability": chip, "cuda": torch.version.cuda}
        asked = f"--query-gpu={','.join(CLOCKS.values())}"
        uuid = f"--id=GPU-{self._about.uuid}"
        command = ["nvidia-smi", asked, uuid, "--format=csv,noheader,nounits"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return found
        values = told.stdout.strip().split(", ")
        return found | dict(zip(CLOCKS, values, strict=True))


DEVICES: dict[str, Callable[[], Device]] = {"cpu": Host, "cuda": Gpu}
