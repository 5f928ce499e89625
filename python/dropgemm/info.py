"""What `dropgemm info` prints: versions, backends, CPU, threads and OpenMP runtimes."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import dropgemm
from dropgemm import _core

_ISA_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "amx_tile", "asimd", "sve")
_OPENMP = re.compile(r"/[^/\s]*(?:gomp|iomp5|libomp)[^/\s]*\.so[^/\s]*$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: `dropgemm info` has no options."""


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    for line in info_lines():
        print(line)
    return 0


def info_lines() -> Iterator[str]:
    """The report, line by line; imports PyTorch and JAX where they are installed."""
    yield f"dropgemm     {dropgemm.__version__}"
    yield f"python       {platform.python_version()}"
    for framework in ("torch", "jax"):
        yield f"{framework:12} {_version(framework)}"
    yield f"xla          {_foreign_functions()}"
    current, problem = _current_backend()
    for name in dropgemm.backends():
        mark = " (in use)" if name == current else ""
        yield f"backend      {name}{mark}: {_core.describe_backend(name).removeprefix(f'{name}: ')}"
    if "cuda" not in dropgemm.backends():
        yield f"no backend   {_core.describe_backend('cuda')}"
    if problem:
        yield f"warning      no backend is in use: {problem}"
    model, flags = cpu()
    yield f"cpu          {model}"
    yield f"cpu features {' '.join(flag for flag in _ISA_FLAGS if flag in flags) or 'none known'}"
    yield f"cpu threads  {len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"
    for name in sorted(os.environ):
        if name.startswith(("OMP_", "GOMP_", "DROPGEMM_")):
            yield f"environment  {name}={os.environ[name]}"
    runtimes = openmp_runtimes()
    for path in runtimes:
        yield f"openmp       {path}"
    if len(runtimes) > 1:
        yield "warning      several OpenMP runtimes in one process compete for the cores"


def cpu() -> tuple[str, set[str]]:
    """The processor's name and the feature flags that Linux knows of it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), set()
    found = re.findall(r"^(\S[^\t:]*?)\s*:\s*(.*)$", text, re.MULTILINE)
    fields: dict[str, str] = dict(found)
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", platform.machine()), set(flags.split())


def openmp_runtimes() -> list[str]:
    """The OpenMP runtime libraries that this process has loaded."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if len(line.split()) > 5}
    return sorted(path for path in paths if _OPENMP.search(path))


def _current_backend() -> tuple[str, str]:
    """The backend that a call takes, or why there is none: the environment names another."""
    try:
        return _core.current_backend(), ""
    except (ValueError, RuntimeError) as error:
        return "", str(error)


def _version(framework: str) -> str:
    try:
        return str(importlib.import_module(framework).__version__)
    except ImportError:
        return "not installed"


def _foreign_functions() -> str:
    """What compiled functions of JAX can call of this build."""
    try:
        version = importlib.import_module("dropgemm._xla").API_VERSION
    except ImportError:
        return "no foreign functions: this build has seen no jaxlib"
    return f"foreign functions of version {version}"
