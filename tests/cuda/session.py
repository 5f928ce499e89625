"""A run of many steps that may fail, each by itself: programs under timeouts, logs, verdicts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORES = os.cpu_count() or 1
SIDE_BY_SIDE = min(12, CORES)  # programs that share the GPU while nothing is timed
TAIL = 15  # lines of a failed step's log that are printed
ENDED_LATE = 124


class LeftOutError(Exception):
    """Why a step has nothing to do here."""


class FailedError(Exception):
    """What went wrong in a step."""


class Session:
    """Steps in turn, each with a log and a verdict, until the time is over."""

    def __init__(self, out: Path, seconds: float) -> None:
        self.out, self.build = out, out / "tree"
        self.end = time.monotonic() + seconds
        self.steps: list[dict[str, object]] = []
        self.about: dict[str, str] = {}  # the machine
        (out / "logs").mkdir(parents=True, exist_ok=True)
        (out / "results").mkdir(exist_ok=True)
        self.library = self.build / "src" / "libdropgemm_cuda.so"
        self.overlay = out / "overlay"  # the Python package
        self.environment = os.environ | {
            "PYTHONPATH": str(self.overlay), "DROPGEMM_CUDA_LIBRARY": str(self.library),
            "DROPGEMM_BENCH_RESULTS": str(out / "results"), "PYTHONUNBUFFERED": "1",
            "LD_LIBRARY_PATH": ":".join(_library_paths()),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX shares the GPU with others
        }  # fmt: skip

    def step(self, name: str, limit: float, body: Callable[[Path, float], str]) -> None:
        """Runs body(log, limit), which returns a note; whatever it raises ends this step alone."""
        begin, log = time.monotonic(), self.out / "logs" / f"{name}.log"
        left = self.end - begin
        try:
            if left < 5:
                raise LeftOutError("no time was left")
            verdict, note = "passed", body(log, min(limit, left))
        except LeftOutError as reason:
            verdict, note = "left out", str(reason)
        except Exception as error:
            verdict, note = "FAILED", str(error) or type(error).__name__
            print(f"--- {name}: {note}", *tail(log), sep="\n", flush=True)
        spent = round(time.monotonic() - begin)
        self.steps.append({"step": name, "verdict": verdict, "seconds": spent, "note": note})
        print(row_of(self.steps[-1]), flush=True)

    def run(self, command: Sequence[object], log: Path, limit: float, **environment: str) -> int:
        """The exit status of a program and all that it started, ended after `limit` seconds."""
        with log.open("a") as output:
            output.write(f"\n$ {' '.join(map(str, command))}\n")
            output.flush()
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=ROOT, env=self.environment | environment, start_new_session=True,
            )  # fmt: skip
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                output.write(f"\nended after {limit:.0f} s\n")
                return ENDED_LATE
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def must(self, command: Sequence[object], log: Path, limit: float, **environment: str) -> None:
        """Raises FailedError for anything but exit status 0."""
        status = self.run(command, log, limit, **environment)
        if status == ENDED_LATE:
            raise FailedError(f"not done after {limit:.0f} s")
        if status != 0:
            raise FailedError(f"exit status {status}")

    def lines_of(self, command: Sequence[object], limit: float, **environment: str) -> list[str]:
        """What a program prints. Raises FailedError where it fails."""
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=limit, cwd=ROOT,
            env=self.environment | environment,
        )  # fmt: skip
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise FailedError(said[-1] if said else f"exit status {done.returncode}")
        return done.stdout.splitlines()


def _library_paths() -> list[str]:
    """The caller's, then where Python's packages keep a cuBLAS: the toolkit may have none."""
    packages = find_spec("nvidia")
    found = packages.submodule_search_locations if packages else None
    own = {lib.parent for each in found or () for lib in Path(each).glob("*/lib/libcublas.so.*")}
    given = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    return [*given, *sorted(map(str, own))]


def tail(log: Path) -> list[str]:
    """The end of a log."""
    return log.read_text(errors="replace").splitlines()[-TAIL:] if log.exists() else []


def row_of(step: Mapping[str, object]) -> str:
    """A step's row of the table."""
    return f"{step['step']:22s} {step['verdict']:9s}{step['seconds']:4d} s  {step['note']}".rstrip()


def side_by_side(work: Callable[[Any], Any], what: Iterable[Any]) -> list[Any]:
    """What comes of each."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(work, what))


def each(work: Callable[[str], bool], names: Iterable[str]) -> list[str]:
    """Of names whose work is done side by side those for which it fails."""
    names = list(names)
    done = side_by_side(work, names)
    return [name for name, good in zip(names, done, strict=True) if not good]


def note_of(failed: Sequence[str], total: int, what: str) -> str:
    """The note of a step. Raises FailedError where there are failures."""
    if not failed:
        return f"{total} {what}"
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
    raise FailedError(f"{len(failed)} of {total} {what}: {', '.join(failed[:5])}{more}")
