"""The steps of `make gpu` (tests/cuda/gpu.py): what fails, hangs or is missing ends alone."""

import json
import sys
import time
from pathlib import Path

import pytest

CUDA = Path(__file__).parents[1] / "cuda"

# As a GoogleTest program: lists its tests, and fails in some of them.
PROGRAM = """#!/bin/bash
names=({names})
for word; do
  case $word in
    --gtest_filter=*) wanted=${{word#*=}} ;;
    --gtest_list_tests) list=yes ;;
  esac
done
if [ $list ]; then
  echo "Running main() from gtest_main.cc"
  echo "All/Suite.  # TypeParam"
  for name in ${{names[@]}}; do echo "  $name/cuda  # GetParam() = something"; done
  exit
fi
for name in ${{names[@]}}; do
  case $wanted in "All/Suite.$name/cuda" | "*/cuda:Device*") ;; *) continue ;; esac
  case $name in Hangs) sleep 600 ;; Breaks) exit 1 ;; esac
done
"""


@pytest.fixture
def gpu(monkeypatch):
    """The module."""
    monkeypatch.syspath_prepend(str(CUDA))
    yield pytest.importorskip("gpu")
    for name in ("gpu", "session"):
        sys.modules.pop(name, None)


@pytest.fixture
def session(gpu, tmp_path):
    return gpu.Session(tmp_path, 60)


def program(session, name, names):
    folder = session.build / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_test"
    path.write_text(PROGRAM.format(names=" ".join(names)))
    path.chmod(0o755)


def verdicts(session):
    return [(step["step"], step["verdict"], step["note"]) for step in session.steps]


def test_a_step_that_fails_is_named_and_the_next_one_runs(gpu, session, capsys):
    def broken(log, limit):
        log.write_text("one line\nanother\n")
        raise RuntimeError("something")

    def missing(log, limit):
        raise gpu.LeftOutError("no such thing here")

    session.step("first", 9, broken)
    session.step("second", 9, missing)
    session.step("third", 9, lambda log, limit: f"at most {limit:.0f} s")
    session.end = time.monotonic()
    session.step("fourth", 9, lambda log, limit: "too late")
    assert verdicts(session) == [
        ("first", "FAILED", "something"), ("second", "left out", "no such thing here"),
        ("third", "passed", "at most 9 s"), ("fourth", "left out", "no time was left"),
    ]  # fmt: skip
    assert "--- first: something\none line\nanother" in capsys.readouterr().out


def test_a_program_that_hangs_is_ended_with_all_that_it_started(gpu, session, tmp_path):
    log, child = tmp_path / "log", tmp_path / "child"
    with pytest.raises(gpu.FailedError, match="not done after 2 s"):
        session.must(["bash", "-c", f"sleep 600 & echo $! >{child}; wait"], log, 2)
    assert "ended after 2 s" in log.read_text()
    state = Path(f"/proc/{int(child.read_text())}/stat")
    for _ in range(100):
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("what the program has started runs on")


def test_of_a_program_that_fails_each_test_runs_by_itself(gpu, session, monkeypatch):
    program(session, "good", ["One", "Two"])
    program(session, "bad", ["One", "Breaks", "Two"])
    with pytest.raises(gpu.FailedError, match=r"bad_test All/Suite\.Breaks/cuda$"):
        gpu.device_tests(session, session.out / "logs" / "tests.log", 50)
    program(session, "bad", ["One", "Hangs"])
    failed = "1 of 4 tests of 2 programs: bad_test All/Suite.Hangs/cuda$"
    with pytest.raises(gpu.FailedError, match=failed):
        gpu.device_tests(session, session.out / "logs" / "tests.log", 6)
    program(session, "bad", ["One"])
    log = session.out / "logs" / "tests.log"
    assert gpu.device_tests(session, log, 50) == "3 tests of 2 programs"


def test_a_machine_without_a_gpu_is_a_failure_and_one_without_googletest_is_not(gpu, session):
    log = session.out / "logs" / "tests.log"
    with pytest.raises(gpu.LeftOutError, match="without GoogleTest"):
        gpu.device_tests(session, log, 9)
    program(session, "empty", [])
    with pytest.raises(gpu.FailedError, match="no test saw a GPU"):
        gpu.device_tests(session, log, 9)


def test_configuring_goes_on_without_optional_libraries(gpu, session, monkeypatch):
    asked = []

    def cmake(command, log, limit):
        asked.append([word for word in command if "DROPGEMM_BUILD" in str(word)])
        text = " ".join(asked[-1])
        missing = [words for _, (option, words) in gpu.OPTIONAL.items() if f"{option}=ON" in text]
        log.write_text("\n".join(missing[:1]))
        return int(bool(missing))

    monkeypatch.setattr(session, "run", cmake)
    log = session.out / "logs" / "build.log"
    assert gpu.configure(session, log, 9) == ["GoogleTest", "Google Benchmark"]
    assert len(asked) == 3
    said = "--\nCMake Error at file:9 (message):\n  No compiler\n  at all.\n"
    monkeypatch.setattr(session, "run", lambda command, log, limit: log.write_text(said))
    with pytest.raises(gpu.FailedError, match="CMake could not configure: No compiler at all"):
        gpu.configure(session, log, 9)


def test_the_words_of_cmake_are_those_that_are_looked_for(gpu):
    files = CUDA.parents[1] / "third_party"
    said = "".join(path.read_text() for path in files.glob("*.cmake"))
    assert all(words in said for _, words in gpu.OPTIONAL.values())


def test_a_set_of_layers_says_who_failed(gpu, session, monkeypatch):
    (session.overlay / "dropgemm").mkdir(parents=True)
    log = session.out / "logs" / "cuda_layer.log"
    results = session.out / "results" / "cuda_layer.json"

    def measured(status, said):
        def run(command, log, limit):
            log.write_text(said)
            results.write_text(json.dumps({"rows": [1, 2]}))
            return status

        monkeypatch.setattr(session, "run", run)
        return gpu.layers("cuda_layer", 9)(session, log, 20)

    assert measured(0, "") == "2 rows"
    said = "failed: layer: dropgemm: no kernel\nfailed: layer: dense: no kernel\nthe end\n"
    failed = "2 rows; 2 contenders failed: layer: dropgemm: no kernel"
    with pytest.raises(gpu.FailedError, match=failed):
        measured(1, said)
    with pytest.raises(gpu.FailedError, match="2 rows; ended after 20 s"):
        measured(124, "some\nended after 20 s\n")


def test_the_sets_and_steps_are_what_there_is(gpu, bench):
    from sets import SETS

    measured = [name for name, *_ in gpu.STEPS if name.startswith("cuda_") and name != "cuda_bench"]
    assert measured == sorted(measured, key=[*SETS, *measured].index)
    assert {*measured} == {name for name, each in SETS.items() if each.device == "cuda"}
