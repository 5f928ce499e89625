"""JAX: products with tile masks that can be compiled, differentiated and sharded, and layers.

dropgemm.matmul and the masks take JAX arrays without anything from here: at once on values that
lie in the CPU's memory, as XLA's foreign functions where JAX traces.
"""

from dropgemm.jax import functional as _functional  # noqa: F401, it makes masks pytrees
from dropgemm.jax.layers import dense, linear, matmul

__all__ = ["dense", "linear", "matmul"]
