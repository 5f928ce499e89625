"""Which backend computes: the default is the fastest that works here."""

from __future__ import annotations

from dropgemm import _core


def backends() -> list[str]:
    """The names of the backends that work on this machine, the default first.

    >>> dg.backends()
    ['cpu', 'reference']
    """
    return list(_core.backends())


def use_backend(name: str) -> None:
    """Makes a backend the one of every later call in this process; "" is the default again.

    The environment variable DROPGEMM_BACKEND sets the first choice. Raises ValueError for an
    unknown name (listing the known ones), RuntimeError for one that does not work here.

    >>> dg.use_backend("reference")  # naive loops: what is right, and slow
    >>> slow = dg.matmul(np.eye(3), np.eye(3))
    >>> dg.use_backend("")
    >>> np.array_equal(dg.matmul(np.eye(3), np.eye(3)), slow)
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {type(name).__qualname__}")
    _core.use_backend(name)
