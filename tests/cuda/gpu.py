"""Everything that needs a GPU, in one go and in less than ten minutes (make gpu).

    python3 tests/cuda/gpu.py [--out build/gpu] [--seconds 540]

Builds with nvcc, runs every test of the CUDA backend on the device, then the benchmarks, then a few
tests under compute-sanitizer; what matters most comes first. Every program runs under a timeout in
a process of its own, so that neither one that hangs nor an error that spoils a CUDA context takes
another with it. Goes on after a failure, and says so at the end. Needs no network; what it does
need, and what it leaves out without, is in src/cuda/README.md.

OUT gets summary.json, the table that ends the output (table.txt), results/*.json as they belong
into bench/results, and a log of each step. Exit status 1 where a step failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from session import (
    CORES,
    ENDED_LATE,
    ROOT,
    FailedError,
    LeftOutError,
    Session,
    each,
    note_of,
    row_of,
    side_by_side,
    tail,
)

ON_DEVICE = "*/cuda:Device*"  # of the suites of every backend the GPU's, and those of a GPU alone
# By optional library: the option that wants it, and what CMake says where it is missing.
OPTIONAL = {
    "GoogleTest": ("DROPGEMM_BUILD_TESTS", "GoogleTest not found"),
    "Google Benchmark": ("DROPGEMM_BUILD_BENCH", "Google Benchmark not found"),
}
PYTHON_TESTS = ("test_*cuda*.py", "test_*gpu*.py")
# Under each tool of compute-sanitizer programs and filters of a few seconds.
SANITIZED = {
    "memcheck": {
        "mask_test": "*/cuda", "pattern_test": "*/cuda", "sgd_test": "*/cuda",
        "compact_test": "*/cuda", "gemm_test": "*LayerProducts/cuda:*SingleElements/cuda",
    },
    "racecheck": {"gemm_test": "*LayerProducts/cuda", "compact_test": "*/cuda"},
    "synccheck": {"gemm_test": "*LayerProducts/cuda"},
}  # fmt: skip
# Products as the goals have them, other blocks, then what else the library does on a GPU.
CUDA_BENCH = {
    "cuda_products": ["--method=block,row,tile", "--side=both,input", "--launch=stream,graph"],
    "cuda_blocks": ["--rows=128,1024", "--cols=32,64,128", "--contender=dropgemm"],
    "cuda_masks": ["--work=mask,compact,expand", "--method=block,row,tile", "--cols=32"],
    "cuda_wide_products": ["--batch=16384", "--features=8192", "--keep=.25,.5,.75,.9"],
}


# ---- building -----------------------------------------------------------------------------------


def machine(session: Session) -> dict[str, str]:
    """GPU, driver, compiler, commit."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    asked = {
        "gpu": query,
        "nvcc": ["nvcc", "--version"],
        "commit": ["git", "rev-parse", "--short", "HEAD"],
        "python": [sys.executable, "-c", "import sys, torch; print(sys.version.split()[0], "
                   "'torch', torch.__version__)"],
    }  # fmt: skip
    found = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    for name, command in asked.items():
        try:
            lines = session.lines_of(command, 60)
            found[name] = "; ".join(lines) if name == "gpu" else lines[-1]
        except (OSError, IndexError, FailedError, subprocess.TimeoutExpired) as error:
            given = os.environ.get(name.upper()) if name == "commit" else None
            found[name] = given or f"unknown ({error})"
    return found


def configure(session: Session, log: Path, limit: float) -> list[str]:
    """Without the optional libraries that are missing, which it names."""
    missing: list[str] = []
    while True:
        wanted = [
            f"-D{option}={'OFF' if library in missing else 'ON'}"
            for library, (option, _) in OPTIONAL.items()
        ]
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        command = ["cmake", "-S", ".", "-B", session.build, *generator, "-DDROPGEMM_CUDA=ON"]
        log.unlink(missing_ok=True)
        if session.run([*command, "-DCMAKE_BUILD_TYPE=Release", *wanted], log, limit) == 0:
            return missing
        said = log.read_text(errors="replace")
        found = [
            library for library, (_, words) in OPTIONAL.items()
            if words in said and library not in missing
        ]  # fmt: skip
        if not found:
            why = " ".join(said.partition("CMake Error")[2].partition("\n")[2].split()[:30])
            raise FailedError(f"CMake could not configure: {why}")
        missing += found


def build(session: Session, log: Path, limit: float) -> str:
    """The backend, and test programs and benchmarks where their libraries are there."""
    if shutil.which("nvcc") is None:
        raise FailedError("no nvcc on the PATH: install CUDA's toolkit (13.0)")
    missing = configure(session, log, limit)
    keep_going = ["--", "-k", "0"] if shutil.which("ninja") else ["--", "-k"]
    command = ["cmake", "--build", session.build, "--parallel", CORES, *keep_going]
    if session.run(command, log, limit) != 0:
        raise FailedError("not everything was built" if session.library.exists() else "no library")
    return f"without {' and '.join(missing)}" if missing else ""


def package(session: Session, log: Path, limit: float) -> str:
    """The Python package; the library is that of build."""
    missing = []
    for name in ("scikit_build_core", "nanobind", "pytest", "torch"):
        if session.run([sys.executable, "-c", f"import {name}"], log, 60) != 0:
            missing.append(name)
    if missing:
        raise LeftOutError(f"no {', '.join(missing)}")
    shutil.rmtree(session.overlay, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
           "--no-index", "--no-build-isolation", "--no-deps", "--upgrade"]  # fmt: skip
    where = ["--target", session.overlay, f"-Cbuild-dir={session.out}/python"]
    session.must(
        [*pip, *where, "-Ccmake.define.DROPGEMM_CUDA=OFF", "."], log, limit,
        CMAKE_BUILD_PARALLEL_LEVEL=str(CORES),
    )  # fmt: skip
    info = [sys.executable, "-m", "dropgemm", "info"]
    return next((line for line in session.lines_of(info, 60) if "cuda:" in line), "").strip()


def needs_package(session: Session) -> None:
    """Raises LeftOutError where package() has made none."""
    if not (session.overlay / "dropgemm").exists():
        raise LeftOutError("without the package")


# ---- tests --------------------------------------------------------------------------------------


def tests_of(session: Session, program: Path) -> list[str]:
    """The full names of a program's tests of a device; of one that cannot list them itself."""
    listed = [program, f"--gtest_filter={ON_DEVICE}", "--gtest_list_tests"]
    names, suite = [], ""
    try:
        lines = session.lines_of(listed, 60)
    except (FailedError, subprocess.TimeoutExpired):
        return ["*"]
    for line in lines:
        word = line.split("#")[0].rstrip()
        if word.endswith(".") and not word.startswith(" "):
            suite = word
        elif word.startswith("  "):
            names.append(suite + word.strip())
    return names


def device_tests(session: Session, log: Path, limit: float) -> str:
    """Each program once; of one that fails each test by itself, which tells the cause from what
    it has spoilt."""
    end = time.monotonic() + limit
    programs = sorted((session.build / "tests").glob("*_test"))
    if not programs:
        raise LeftOutError("without GoogleTest none was built")
    listed = side_by_side(lambda program: tests_of(session, program), programs)
    found = {program.name: tests for program, tests in zip(programs, listed, strict=True) if tests}
    total = sum(map(len, found.values()))
    if not any(test.endswith("/cuda") for tests in found.values() for test in tests):
        raise FailedError("no test saw a GPU")

    def passes(name: str, tests: str, most: float) -> bool:
        own = log.with_name(f"tests.{name}.log")
        command = [session.build / "tests" / name, f"--gtest_filter={tests}"]
        left = max(1.0, min(most, end - time.monotonic()))
        return session.run(command, own, left, OMP_NUM_THREADS="2") == 0

    for name in found:
        log.with_name(f"tests.{name}.log").unlink(missing_ok=True)
    # The other half of the time is for single tests.
    spoilt = each(lambda name: passes(name, ON_DEVICE, limit / 2), found)
    alone = [f"{name} {test}" for name in spoilt for test in found[name]]
    failed = each(lambda one: passes(*one.split(" ", 1), 30), alone)
    log.write_text("".join(f"{line}\n" for line in failed or ["all passed"]))
    # A program that fails whole, while each of its tests passes alone, has failed too.
    failed += [name for name in spoilt if not any(one.startswith(f"{name} ") for one in failed)]
    return note_of(failed, total, f"tests of {len(found)} programs")


def python_tests(session: Session, log: Path, limit: float) -> str:
    """Every test function in a process of its own."""
    end = time.monotonic() + limit
    needs_package(session)
    files = sorted({file for glob in PYTHON_TESTS for file in ROOT.glob(f"tests/python/{glob}")})
    # A warning of a library that is newer than those the tests are made with is no failure.
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "filterwarnings=",
        "-p",
        "no:cacheprovider",
    ]
    names: dict[str, None] = {}
    for file in map(str, files):
        try:
            listed = session.lines_of([*pytest, "--collect-only", file], 60)
            names |= dict.fromkeys(line.split("[")[0] for line in listed if "::" in line)
        except (FailedError, subprocess.TimeoutExpired):
            names[file] = None  # which then fails, and says why in its log

    def passes(name: str) -> bool:
        own = log.with_name(f"python.{_last(name)}.log")
        own.unlink(missing_ok=True)
        return session.run([*pytest, name], own, max(1.0, min(90, end - time.monotonic()))) == 0

    failed = each(passes, names)
    log.write_text("".join(f"{line}\n" for line in failed or ["all passed"]))
    note = note_of([_last(name) for name in failed], len(names), "test functions")
    ends = ["".join(tail(log.with_name(f"python.{_last(name)}.log"))[-1:]) for name in names]
    return f"{note}, {sum('passed' not in end for end in ends)} of them skipped"


def _last(name: str) -> str:
    """A test's file and its own name, in short."""
    file, _, own = name.partition("::")
    return f"{Path(file).stem}.{own}" if own else Path(file).stem


def sanitized(session: Session, log: Path, limit: float) -> str:
    """A small set under each tool."""
    if shutil.which("compute-sanitizer") is None:
        raise LeftOutError("no compute-sanitizer")
    if not any((session.build / "tests").glob("*_test")):
        raise LeftOutError("without GoogleTest there is no test program")
    end = time.monotonic() + limit
    runs = {
        f"{tool} {name}": (tool, name, tests)
        for tool, programs in SANITIZED.items()
        for name, tests in programs.items()
    }

    def passes(key: str) -> bool:
        tool, name, tests = runs[key]
        own = log.with_name(f"sanitizer.{tool}.{name}.log")
        own.unlink(missing_ok=True)
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1",
                   session.build / "tests" / name, f"--gtest_filter={tests}"]  # fmt: skip
        status = session.run(command, own, max(1.0, end - time.monotonic()))
        if status == ENDED_LATE:
            late[key] = " (not done in time)"
        return status == 0

    late: dict[str, str] = {}
    failed = [key + late.get(key, "") for key in each(passes, runs)]
    log.write_text("".join(f"{line}\n" for line in failed or ["all passed"]))
    return note_of(failed, len(runs), "runs")


# ---- benchmarks ---------------------------------------------------------------------------------


def layers(name: str, seconds: float) -> Callable[[Session, Path, float], str]:
    """A set of bench/layers.py."""

    def measure(session: Session, log: Path, limit: float) -> str:
        needs_package(session)
        log.unlink(missing_ok=True)
        # Half of the limit is for compilers and for what is measured before anything counts.
        budget = min(seconds, limit / 2)
        command = [sys.executable, "bench/layers.py", "--set", name, "--seconds", budget]
        status = session.run([*command, "--overwrite"], log, limit)
        results = session.out / "results" / f"{name}.json"
        rows = len(json.loads(results.read_text())["rows"]) if results.exists() else 0
        if status != 0:
            said = [line for line in log.read_text().splitlines() if line.startswith("failed: ")]
            why = f"{len(said)} contenders {said[0]}" if said else tail(log)[-1]
            raise FailedError(f"{rows} rows; {why}")
        return f"{rows} rows"

    return measure


def cuda_bench(session: Session, log: Path, limit: float) -> str:
    """The google-benchmark program."""
    end = time.monotonic() + limit
    program = session.build / "bench" / "cuda_bench"
    if not program.exists():
        raise LeftOutError("without Google Benchmark it was not built")
    log.unlink(missing_ok=True)
    failed = []
    for name, axes in CUDA_BENCH.items():
        results = session.out / "results" / f"{name}.json"
        results.unlink(missing_ok=True)
        said = ",".join(f"{key}={value.replace(',', ';')}" for key, value in session.about.items())
        command = [program, *axes, "--benchmark_min_time=0.05", f"--benchmark_out={results}"]
        command += [f"--benchmark_context={said}"] * bool(said)
        if session.run(command, log, max(1.0, end - time.monotonic())) != 0:
            failed.append(name)
    return note_of(failed, len(CUDA_BENCH), "sets")


def goals(session: Session) -> str:
    """Beside what was reached."""
    try:
        return "\n".join(session.lines_of([sys.executable, "bench/gpu_goals.py"], 60))
    except (FailedError, subprocess.TimeoutExpired) as error:
        return f"goals: {error}"


# What matters most first. Name, seconds at most, body.
STEPS: list[tuple[str, float, Callable[[Session, Path, float], str]]] = [
    ("build", 300, build),
    ("package", 120, package),
    ("tests", 200, device_tests),
    ("python", 200, python_tests),
    ("cuda_layer", 100, layers("cuda_layer", 25)),
    ("cuda_step", 80, layers("cuda_step", 15)),
    ("cuda_table7", 60, layers("cuda_table7", 12)),
    ("cuda_bench", 60, cuda_bench),
    ("sanitizer", 100, sanitized),
    ("cuda_papers", 60, layers("cuda_papers", 15)),
    ("cuda_step_papers", 80, layers("cuda_step_papers", 15)),
    ("cuda_wide", 80, layers("cuda_wide", 30)),
]


def main() -> int:
    """Every step, the table, the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--seconds", type=float, default=540, help="for everything, at most")
    parser.add_argument("--steps", nargs="+", choices=[name for name, *_ in STEPS])
    args = parser.parse_args()
    session = Session(args.out.resolve(), args.seconds)
    about = session.about = machine(session)
    for name, limit, body in STEPS:
        if args.steps is None or name in args.steps:
            session.step(name, limit, lambda log, most, body=body: body(session, log, most))
    table = "\n".join(
        [
            *(f"{name}: {value}" for name, value in about.items()),
            "", goals(session), *map(row_of, session.steps),
        ]
    )  # fmt: skip
    (session.out / "table.txt").write_text(f"{table}\n")
    summary = json.dumps({"machine": about, "steps": session.steps}, indent=2)
    (session.out / "summary.json").write_text(f"{summary}\n")
    print(f"\n{table}")
    return int(any(step["verdict"] == "FAILED" for step in session.steps))


if __name__ == "__main__":
    sys.exit(main())
