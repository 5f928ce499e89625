"""Fixtures of the Python tests; the plain NumPy definitions they compare with are in dense.py."""

import sys
from pathlib import Path

import pytest

import dropgemm as dg
from dropgemm import _core

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["reference", "cpu"])
def backend(request):
    """Every backend of the CPU in turn, forced by name and seen to have taken."""
    dg.use_backend(request.param)
    assert _core.current_backend() == request.param
    yield request.param
    dg.use_backend("")


@pytest.fixture(params=["numpy", "torch"])
def framework(request):
    """The frameworks that arrays come in."""
    return request.param


@pytest.fixture(autouse=True)
def compiler():
    """Each test has PyTorch's compiler as new: it stops compiling code that it has met with many
    models."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch"].compiler.reset()


@pytest.fixture
def saved(monkeypatch):
    """The figures that matplotlib is asked to save, in the place of their files."""
    figure = pytest.importorskip("matplotlib.figure").Figure
    figures = []
    monkeypatch.setattr(figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Programs of bench/, which write their results elsewhere and leave torch as it was."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    record = pytest.importorskip("record")
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
