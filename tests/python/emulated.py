"""A pytest plugin, for `pytest -p emulated`: PyTorch's CPU tensors are taken for CUDA's, and what
the core does with them is done by the CUDA backend that runs on the emulator. CuPy is host_cupy.py.

Needs DROPGEMM_CUDA_LIBRARY. What is PyTorch's own (streams, its operators, its graphs) stays the
CPU's.
"""

import sys

import pytest

import host_cupy
from dropgemm.torch import operands, tracing

host_cupy.install()


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    """Each test, on the emulated device."""
    monkeypatch.setattr(operands, "on_host", lambda tensor: False)
    monkeypatch.setattr(operands, "on_cuda", lambda tensor: not tensor.is_meta)
    monkeypatch.setattr(operands, "stream", lambda tensor: 0)
    needed = tracing.needs_operator

    def needs_operator(*tensors):
        return bool(tensors) or needed()

    for name, module in list(sys.modules.items()):
        if name.startswith("dropgemm.torch") and hasattr(module, "needs_operator"):
            monkeypatch.setattr(module, "needs_operator", needs_operator)
