"""dropgemm: dropout that makes the GEMM smaller.

Arrays are NumPy arrays, PyTorch tensors, JAX arrays or CuPy arrays; results come in the caller's
framework, on the device of the operands. PyTorch layers, and the conversion of models, are in
dropgemm.torch.

Examples begin with `import numpy as np` and `import dropgemm as dg`.
"""

from importlib.metadata import version as _version
from pathlib import Path as _Path

from dropgemm.backends import backends, use_backend
from dropgemm.compact import compact, expand
from dropgemm.masks import bernoulli_mask
from dropgemm.matmul import matmul
from dropgemm.pattern import RowPattern, TilePattern
from dropgemm.schedule import GyroSchedule
from dropgemm.search import PatternDistribution, search_distribution
from dropgemm.tile_mask import TileMask

__version__ = _version("dropgemm")
__all__ = [
    "GyroSchedule",
    "PatternDistribution",
    "RowPattern",
    "TileMask",
    "TilePattern",
    "__version__",
    "backends",
    "bernoulli_mask",
    "cmake_dir",
    "compact",
    "expand",
    "matmul",
    "search_distribution",
    "use_backend",
]


def cmake_dir() -> str:
    """Where find_package(dropgemm) finds this installation: pass it as dropgemm_DIR.

    >>> print(f"cmake -S . -B build -Ddropgemm_DIR={dg.cmake_dir()}")
    cmake -S . -B build -Ddropgemm_DIR=/.../dropgemm/lib/cmake/dropgemm
    """
    return str(_Path(__file__).resolve().parent / "lib" / "cmake" / "dropgemm")
