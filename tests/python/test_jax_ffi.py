"""The foreign functions themselves, which any XLA program may call with anything."""

import jax
import jax.ffi
import jax.numpy as jnp
import numpy as np
import pytest

import dropgemm as dg
from dropgemm.jax import ffi

X = jnp.ones((4, 6))
BITS = jnp.full((2, 1), 3, jnp.uint32)
LAYOUT = (4, 6, 2, 3, 0)  # of a mask of X with those bits
STEP = jnp.array([3, 0], jnp.uint32)
F32, U32 = jnp.float32, jnp.uint32

ATTRIBUTES = {
    "matmul": {
        **{f"{name}_mask": np.zeros(0, np.int64) for name in ("a", "b", "out")},
        **{f"{name}_keep": np.float64(1) for name in ("a", "b", "out")},
        **dict.fromkeys(
            ("trans_a", "bias", "addend", "scale_array", "out_scale_array", "aux_out", "workspace",
             "deterministic"),
            np.False_,
        ),
        "trans_b": np.True_,
        "scale": np.float64(1),
        "out_scale": np.float64(1),
        "activation": np.int64(0),
        "precision": np.int64(0),
    },
    "bernoulli_mask": {
        "layout": LAYOUT[:4], "p": np.float64(0.5), "seed": 0, "site": 0, "call": 0, "first_row": 0,
    },
    "gyro_mask": {
        "layout": (4, 6, 2, 3), "p": np.float64(0.5), "exact": np.True_, "seed": 0, "site": 0,
        "total_steps": 9, "subnets": 4, "coscheduled": 2, "group_rows": 2,
        "random_order": np.False_, "rows_per_sample": 1, "first": 0, "batch": 0,
    },
    "pattern_mask": {
        "layout": (4, 6, 4, 1), "tiles": np.False_, "skew": 1, "linear": np.False_,
        "seed": 0, "site": 0, "call": 0,
    },
    "compact": {"mask": LAYOUT, "axis": 1},
    "expand": {"mask": LAYOUT, "axis": 1},
}  # fmt: skip
ATTRIBUTES["matmul_in_workspace"] = ATTRIBUTES["matmul"]


def call(name, operands, results, **changes):
    """The function with arguments that are right but for the changes."""
    ffi._register()
    attributes = {
        key: np.array(value, np.int64) if isinstance(value, tuple)
        else np.int64(value) if isinstance(value, int) else value
        for key, value in (ATTRIBUTES[name] | changes).items()
    }  # fmt: skip
    kinds = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    return jax.ffi.ffi_call(f"dropgemm.{name}", kinds)(*operands, **attributes)


SQUARE = [((4, 4), F32)]
WORDS = [((2, 1), U32)]
ROW = [((1, 1), U32), ((), F32)]
DRAWN = (STEP, jnp.array([[1 << 31, 0], [0, 1]], jnp.uint32))  # of periods 1 and 2


def test_calls_that_are_right_are_carried_out():
    (y,) = call("matmul", (X, X, BITS), SQUARE, a_mask=LAYOUT)
    mask = dg.TileMask(BITS, (4, 6), (2, 3))
    np.testing.assert_array_equal(y, dg.matmul(X, X, trans_b=True, a_mask=mask))
    (bits,) = call("bernoulli_mask", (STEP,), WORDS)
    drawn = dg.bernoulli_mask(4, 6, 0.5, seed=0, site=0, step=3, tile=(2, 3))
    np.testing.assert_array_equal(bits, drawn.bits)
    assert call("gyro_mask", (STEP,), WORDS)[0].shape == (2, 1)
    assert float(call("pattern_mask", DRAWN, ROW)[1]) in (1.0, 2.0)
    y, _ = call("matmul_in_workspace", (X, X), [*SQUARE, ((5,), jnp.uint8)], workspace=np.True_)
    np.testing.assert_array_equal(y, X @ X.T)
    (xc,) = call("compact", (X, BITS), [((4, 6), F32)])
    np.testing.assert_array_equal(call("expand", (xc, BITS), [((4, 6), F32)])[0], X)


BAD = {
    "rank": (("matmul", (X[0], X), SQUARE), {}, "a: expected a 2-D array, got 1-D"),
    "dtype": (("matmul", (X.astype(jnp.int32), X), SQUARE), {}, "a: expected float32, float64"),
    "inner": (("matmul", (X, X[:, :5]), SQUARE), {}, r"b: expected shape \[4, 6\]"),
    "result": (("matmul", (X, X), [((4, 5), F32)]), {}, r"out: expected shape \[4, 4\]"),
    "no bits": (("matmul", (X, X), SQUARE), {"a_mask": LAYOUT}, "a_mask: expected an operand"),
    "no bias": (("matmul", (X, X), SQUARE), {"bias": np.True_}, "bias: expected an operand"),
    "bias": (("matmul", (X, X, X[0]), SQUARE), {"bias": np.True_}, r"bias: expected \[4\], got"),
    "bias dtype": (("matmul", (X, X, X[0, :4].astype(jnp.bfloat16)), SQUARE),
                   {"bias": np.True_}, "bias: expected float32 as a"),
    "addend": (("matmul", (X, X, X), SQUARE), {"addend": np.True_}, "addend: expected shape"),
    "scale": (("matmul", (X, X, X[0, :1]), SQUARE), {"scale_array": np.True_},
              "scale: expected a 0-D array, got 1-D"),
    "scale dtype": (("matmul", (X, X, STEP[0]), SQUARE), {"out_scale_array": np.True_},
                    "out_scale: expected float32"),
    "no aux": (("matmul", (X, X), SQUARE), {"aux_out": np.True_}, "aux_out: expected a result"),
    "aux": (("matmul", (X, X), [*SQUARE, ((4, 3), F32)]), {"aux_out": np.True_},
            "aux_out: expected shape"),
    "no workspace": (("matmul", (X, X), SQUARE), {"workspace": np.True_},
                     "workspace: expected a result"),
    "activation": (("matmul", (X, X), SQUARE), {"activation": np.int64(9)}, "activation: expected"),
    "layout": (("matmul", (X, X, BITS), SQUARE), {"a_mask": LAYOUT[:4]},
               "a_mask: expected a layout of 5 numbers, got 4"),
    "tile": (("matmul", (X, X, BITS), SQUARE), {"a_mask": (4, 6, 0, 3, 0)},
             "a_mask: expected at most .* tiles of at least 1"),
    "few bits": (("matmul", (X, X, BITS[:1]), SQUARE), {"a_mask": LAYOUT},
                 "a_mask: expected 2 words, got 1"),
    "bits dtype": (("matmul", (X, X, BITS.astype(jnp.int32)), SQUARE), {"a_mask": LAYOUT},
                   "a_mask: expected words of uint32"),
    "mask shape": (("matmul", (X, X, BITS), SQUARE), {"a_mask": (4, 3, 2, 3, 0)}, "a_mask: expec"),
    "step dtype": (("bernoulli_mask", (X[0, :2],), WORDS), {}, "step: expected words of uint32"),
    "step rank": (("bernoulli_mask", (STEP[0],), WORDS), {}, "step: expected a 1-D array"),
    "step size": (("bernoulli_mask", (STEP[:1],), WORDS), {}, "step: expected 2 words, got 1"),
    "words": (("bernoulli_mask", (STEP,), [((3, 1), U32)]), {}, "bits: expected 2 words"),
    "overflow": (("bernoulli_mask", (STEP,), WORDS),
                 {"layout": (1 << 32, 1 << 37, 1, 1)}, "mask: expected at most 2\\^60 elements"),
    "rate": (("bernoulli_mask", (STEP,), WORDS), {"p": np.float64("nan")}, "p: expected"),
    "site": (("gyro_mask", (STEP,), WORDS), {"site": -1}, "site: expected"),
    "subnets": (("gyro_mask", (STEP,), WORDS), {"subnets": 0}, "subnets: expected"),
    "part": (("gyro_mask", (STEP,), WORDS), {"first": 8, "batch": 4}, "expected"),
    "periods": (("pattern_mask", (STEP, DRAWN[1][:0]), ROW), {}, "periods: expected"),
    "thresholds": (("pattern_mask", (STEP, DRAWN[1][:, :1]), ROW), {},
                   "thresholds: expected 4 words, got 2"),
    "thresholds' rank": (("pattern_mask", (STEP, STEP), ROW), {}, "thresholds: expected a 2-D"),
    "skew": (("pattern_mask", DRAWN, [((1, 1), U32), ((), F32)]),
             {"tiles": np.True_, "layout": (4, 6, 4, 1)}, "expected"),
    "period's dtype": (("pattern_mask", DRAWN, [((1, 1), U32), ((), jnp.int32)]), {},
                       "scale: expected float32"),
    "axis": (("compact", (X, BITS), [((4, 6), F32)]), {"axis": 9}, "axis: expected"),
    "room": (("compact", (X, BITS), [((4, 2), F32)]), {}, "size: expected at least 6, got 2"),
    "expand": (("expand", (X, BITS), [((4, 5), F32)]), {}, "expected"),
    "x rank": (("compact", (X[0], BITS), [((4, 6), F32)]), {}, "x: expected a 2-D array, got 1-D"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_others_are_errors(case):
    arguments, changes, message = BAD[case]
    with pytest.raises(RuntimeError, match=message):
        jax.block_until_ready(call(*arguments, **changes))
