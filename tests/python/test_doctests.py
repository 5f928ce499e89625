"""The examples in the docstrings of the public names: every name has some, and they are true."""

import doctest

import numpy as np
import pytest

import dropgemm as dg
import dropgemm.jax

NAMES = [name for name in dg.__all__ if name != "__version__"]


def examples(name, module=dg):
    """Those of a name and, for a class, of its members; they see nothing of the module."""
    found = doctest.DocTestFinder().find(getattr(module, name), name, globs={"np": np, "dg": dg})
    return [test for test in found if test.examples]


@pytest.mark.parametrize(
    ("name", "module"),
    [*((name, dg) for name in NAMES), *((name, dropgemm.jax) for name in dropgemm.jax.__all__)],
)
def test_the_examples_of_a_public_name_are_true(name, module):
    tests = examples(name, module)
    assert tests, f"{name}: expected an example in its docstring, got none"
    report = []
    for test in tests:
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("name", ["bernoulli_mask", "matmul"])
def test_the_frameworks_stand_where_a_user_looks_first(name):
    lines = [example.source for test in examples(name) for example in test.examples]
    assert "import torch\n" in lines
    assert "import jax.numpy as jnp\n" in lines
