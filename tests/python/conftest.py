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
