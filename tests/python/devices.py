"""Where tests of layers run: on the CPU, and on a GPU where there is one."""

import pytest
import torch

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch sees")
on_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
