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

RESULTS = Path(os.environ.get("DROPGEMM_BENCH_RESULTS") or Path(__file__).parent / "results")


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
    """What git says of this checkout; "" where this is none."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


# As the program starts: a long run may see later commits. A copy without git may be told.
COMMIT = _git("rev-parse", "--short", "HEAD").strip() or os.environ.get("COMMIT") or "unknown"
LOAD = round(os.getloadavg()[0], 2)  # of the last minute: what else the machine does
# Results themselves do not count: a run of several programs writes them between.
_CODE = (":(top)", ":(top,exclude)bench/results")
UNCOMMITTED = bool(_git("status", "--porcelain", "--untracked-files=no", "--", *_CODE).strip())


def this_machine() -> dict[str, Any]:
    """Everything a reader needs to place a figure."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": LOAD,
        "omp_proc_bind": os.environ.get("OMP_PROC_BIND", ""),
        "backend": dropgemm.backends(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": COMMIT,
        "uncommitted": UNCOMMITTED,
    }


def path_of(name: str) -> Path:
    """Where the results of a name lie."""
    return RESULTS / f"{name}.json"


def check_free(name: str, *, overwrite: bool) -> None:
    """Raise before anything is measured where results of this name could not be written.

    FileExistsError where they exist and overwriting is not asked for, ValueError for a name that is
    none of a file in bench/results.
    """
    if Path(name).name != name:
        raise ValueError(f"--name: expected a name without folders, got {name!r}")
    if path_of(name).exists() and not overwrite:
        raise FileExistsError(f"{path_of(name)} exists: pass --overwrite, or another --name")


def save(
    name: str, results: dict[str, Any], *, overwrite: bool, machine: dict[str, Any] | None = None
) -> Path:
    """Write bench/results/<name>.json; a list of rows one row a line.

    machine: what is known of it beside this_machine(). Raises as check_free does.
    """
    check_free(name, overwrite=overwrite)
    RESULTS.mkdir(parents=True, exist_ok=True)
    head = {"machine": this_machine() | (machine or {}), **results}
    rows = head.pop("rows", None)
    text = json.dumps(head, indent=2)
    if rows is not None:
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        text = f'{text[:-2]},\n  "rows": [\n{lines}\n  ]\n}}'
    path_of(name).write_text(text + "\n")
    return path_of(name)


def load(name: str) -> dict[str, Any]:
    """Read the results of a name."""
    results: dict[str, Any] = json.loads(path_of(name).read_text())
    return results


def result_names() -> list[str]:
    """Of all results but those that git ignores."""
    stems = (path.stem for path in RESULTS.glob("*.json"))
    return sorted(stem for stem in stems if not stem.startswith("local_"))
