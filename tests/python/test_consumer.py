"""The installed package serves C++: find_package(dropgemm) from its cmake_dir(), build, run."""

import shutil
import subprocess
from pathlib import Path

import dropgemm as dg

SOURCE = Path(__file__).parent.parent / "consumer"


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_a_cpp_program_builds_against_the_installed_package(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    assert cmake is not None, "expected cmake on PATH (make test puts that of .venv there)"
    run(cmake, "-S", SOURCE, "-B", tmp_path, f"-Ddropgemm_DIR={dg.cmake_dir()}",
        "-DCMAKE_BUILD_TYPE=Release")  # fmt: skip
    run(cmake, "--build", tmp_path)
    printed = run(tmp_path / "consumer")
    assert "wrong elements: 0" in printed
    # Half of the inputs and half of the outputs: a quarter of the work, whatever the backend.
    assert "work 0.25" in printed


def test_consumers_link_no_openmp() -> None:
    targets = "".join(path.read_text() for path in Path(dg.cmake_dir()).glob("*.cmake"))
    assert "dropgemm::dropgemm" in targets
    assert "openmp" not in targets.lower()
