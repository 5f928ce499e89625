"""The installed package serves C++: find_package(dropgemm) from its cmake_dir(), build, run."""

import re
import shutil
import subprocess
from pathlib import Path

import dropgemm as dg

SOURCE = Path(__file__).parent.parent / "consumer"
README = Path(__file__).parent.parent.parent / "README.md"
GUIDE = README.parent / "include" / "dropgemm" / "README.md"
PROGRAM = re.compile(r"^```cpp\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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
    assert run(tmp_path / "consumer") == "ok, sum 16777216\n"


def test_the_readme_shows_that_program() -> None:
    assert (SOURCE / "main.cc").read_text() in README.read_text()


def test_the_programs_of_the_guide_print_what_it_says(tmp_path: Path) -> None:
    programs = PROGRAM.findall(GUIDE.read_text())
    assert len(programs) == GUIDE.read_text().count("```cpp") == 3
    lists = (SOURCE / "CMakeLists.txt").read_text()
    for index, (program, _) in enumerate(programs):
        (tmp_path / f"program{index}.cc").write_text(program)
    target = lists[lists.index("add_executable") :]
    lists = lists.removesuffix(target) + "".join(
        target.replace("consumer", f"program{index}").replace("main", f"program{index}")
        for index in range(len(programs))
    )
    (tmp_path / "CMakeLists.txt").write_text(lists)
    build = tmp_path / "build"
    run("cmake", "-S", tmp_path, "-B", build, f"-Ddropgemm_DIR={dg.cmake_dir()}")
    run("cmake", "--build", build)
    for index, (_, expected) in enumerate(programs):
        assert run(build / f"program{index}") == expected


def test_consumers_link_no_openmp() -> None:
    targets = "".join(path.read_text() for path in Path(dg.cmake_dir()).glob("*.cmake"))
    assert "dropgemm::dropgemm" in targets
    assert "openmp" not in targets.lower()
