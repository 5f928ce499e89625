"""Result files: what was measured, on which machine, when, at which commit."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import dropgemm

RESULTS = Path(__file__).parent / "results"


def _cpu() -> str:
    """Name, family and model of the processor, as /proc/cpuinfo has them."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    except OSError:
        return platform.processor()
    keys = ("model name", "cpu family", "model")
    return ", ".join(f"{key} {fields[key]}" for key in keys if key in fields)


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    command = ["git", *arguments]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout


# As the program starts: a long run may see later commits.
COMMIT = _git("rev-parse", "--short", "HEAD").strip()
UNCOMMITTED = bool(_git("status", "--porcelain", "--untracked-files=no").strip())


def machine() -> dict[str, Any]:
    """Everything a reader needs to place a figure."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "omp_proc_bind": os.environ.get("OMP_PROC_BIND", ""),
        "backend": dropgemm.backends(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": COMMIT,
        "uncommitted": UNCOMMITTED,
    }


def save(name: str, results: dict[str, Any], *, overwrite: bool) -> Path:
    """Write bench/results/<name>.json.

    Raises FileExistsError where it exists and overwrite is not asked for.
    """
    path = RESULTS / f"{name}.json"
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: pass --overwrite, or another --name")
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    return path
