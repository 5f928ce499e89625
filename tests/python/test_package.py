"""The package as a whole: backends by name, threads, the command line, where CMake finds it."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import dropgemm as dg
from dense import assert_within, product
from dropgemm import _core
from dropgemm.info import openmp_runtimes


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_backends_are_chosen_by_name():
    assert dg.backends()[0] == _core.current_backend() == "cpu"
    assert "reference" in dg.backends()
    with pytest.raises(ValueError, match=r"backend.*cpu.*got.*abacus"):
        dg.use_backend("abacus")
    with pytest.raises(TypeError, match="name: expected a string, got int"):
        dg.use_backend(3)
    dg.use_backend("reference")
    try:
        assert _core.current_backend() == "reference"
    finally:
        dg.use_backend("")
    assert _core.current_backend() == "cpu"


def test_the_environment_sets_the_first_choice():
    show = "from dropgemm import _core; print(_core.current_backend())"
    assert run("-c", show, DROPGEMM_BACKEND="reference").stdout.strip() == "reference"
    wrong = run("-c", show, DROPGEMM_BACKEND="abacus")
    assert wrong.returncode != 0
    assert "abacus" in wrong.stderr


def test_threads_calling_at_once_get_their_own_results(backend):
    rng = np.random.default_rng(0)
    problems = []
    for m, n, k in ((128, 160, 96), (96, 64, 256)):
        a = rng.standard_normal((m, k)).astype(np.float32)
        b = rng.standard_normal((k, n)).astype(np.float32)
        mask = dg.GyroSchedule(k, 0.5, total_steps=9, seed=0, site=0, subnets=2, coscheduled=2,
                               tile_rows=32, tile_cols=32).mask(0, m)  # fmt: skip
        problems.append((a, b, mask, product(a, b, mask)))
    failures = []

    def work(a, b, mask, expected):
        try:
            for _ in range(30):
                assert_within(dg.matmul(a, b, a_mask=mask), *expected)
        except AssertionError as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=problem) for problem in problems]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    one, two = np.empty_like(a), np.empty_like(a)
    _core.matmul(a, b, one, num_threads=1)
    _core.matmul(a, b, two, num_threads=2)
    np.testing.assert_array_equal(one, two)


def test_no_framework_is_imported_that_the_user_has_not():
    code = (
        "import sys, numpy as np, dropgemm as dg; dg.matmul(np.eye(3), np.eye(3));"
        "dg.bernoulli_mask(3, 3, 0.5, seed=0, site=0).to_dense();"
        "print('torch' in sys.modules, 'jax' in sys.modules)"
    )
    assert run("-c", code).stdout.strip() == "False False"
    code = "import sys, torch, dropgemm as dg; dg.matmul(torch.eye(3), torch.eye(3));"
    assert run("-c", code + "print('jax' in sys.modules)").stdout.strip() == "False"


def test_finding_frameworks_compiles_nothing_again():
    code = """
import numpy as np, torch, dropgemm as dg
graphs = []

@torch.compile(backend=lambda graph, _: graphs.append(graph) or graph.forward, fullgraph=True)
def product(a):
    return dg.matmul(a, a)

class Other(np.ndarray): pass

for _ in range(3):
    product(torch.eye(3))
    dg.matmul(np.eye(3).view(Other), np.eye(3))
print(len(graphs))
"""
    result = run("-c", code)
    assert result.stdout.strip() == "1", result.stderr


def test_info_says_what_this_machine_has():
    result = run("-m", "dropgemm", "info")
    assert result.returncode == 0, result.stderr
    for line in (f"dropgemm     {dg.__version__}", "backend      cpu (in use)",
                 "backend      reference", "cpu features", "torch        2",
                 "jax          0", "xla          foreign functions of version 0."):  # fmt: skip
        assert line in result.stdout
    assert run("-m", "dropgemm", "waltz").returncode == 2
    wrong = run("-m", "dropgemm", "info", DROPGEMM_BACKEND="abacus")
    assert wrong.returncode == 0, wrong.stderr
    assert re.search("warning .*no backend is in use: DROPGEMM_BACKEND.*'abacus'", wrong.stdout)
    assert "environment  DROPGEMM_BACKEND=abacus" in wrong.stdout
    assert "info" in run("-m", "dropgemm", "--help").stdout


def test_one_openmp_runtime_serves_torch_and_us():
    np.testing.assert_array_equal(dg.matmul(np.eye(2), np.eye(2)), np.eye(2))
    assert len(openmp_runtimes()) <= 1


def test_cmake_finds_the_installed_package():
    assert (Path(dg.cmake_dir()) / "dropgemmConfig.cmake").is_file()


def test_a_reader_that_has_enough_is_no_error_to_print():
    """As `head` is in `dropgemm search | head -1`."""
    command = [sys.executable, "-m", "dropgemm", "search"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
