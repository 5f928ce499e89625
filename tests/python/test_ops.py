"""The PyTorch operators: opcheck, derivatives, tracing, and what has no derivative."""

import itertools

import numpy as np
import pytest
import torch
from torch.library import opcheck

import dropgemm as dg
from dropgemm.torch.calls import MaskArguments, Product

M, N, K = 9, 7, 11
TILES = {"a": (4, 3), "b": (2, 5), "out": (3, 2)}


def problem(trans_a=False, trans_b=False, masked=True, dtype=torch.float64, seed=0):
    """Operands, masks, bias and addend of a small product."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (K, M) if trans_a else (M, K), "b": (N, K) if trans_b else (K, N),
              "out": (M, N)}  # fmt: skip
    tensors = [
        torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True)
        for shape in (shapes["a"], shapes["b"], (N,), (M, N))
    ]
    masks = {}
    for name, shape in shapes.items():
        tile = TILES[name]
        tiles = torch.rand([-(-n // t) for n, t in zip(shape, tile, strict=True)],
                           generator=generator) < 0.6  # fmt: skip
        dense = tiles.repeat_interleave(tile[0], 0).repeat_interleave(tile[1], 1)
        dense = dense[: shape[0], : shape[1]].contiguous()
        masks[f"{name}_mask"] = dg.TileMask.from_dense(dense, tile=tile) if masked else None
    return tensors, masks


def dense_product(tensors, masks, trans_a, trans_b, activation, scale, out_scale):
    a, b, bias, addend = tensors
    keep = {name: mask.to_dense() if mask else None for name, mask in masks.items()}

    def select(x, mask):
        return x if mask is None else torch.where(mask, x, 0.0)

    a, b = select(a, keep["a_mask"]), select(b, keep["b_mask"])
    z = scale * ((a.T if trans_a else a) @ (b.T if trans_b else b)) + addend + bias
    act = {None: lambda x: x, "relu": torch.relu, "gelu": torch.nn.functional.gelu,
           "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh")}  # fmt: skip
    return select(out_scale * act[activation](z), keep["out_mask"])


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize(("trans_a", "trans_b"), list(itertools.product((False, True), repeat=2)))
def test_gradients_are_those_of_the_dense_product(backend, trans_a, trans_b, activation):
    tensors, masks = problem(trans_a, trans_b)
    factors = {"scale": 1.5, "out_scale": -0.5}
    a, b, bias, addend = tensors
    got = dg.matmul(a, b, **masks, trans_a=trans_a, trans_b=trans_b, bias=bias, addend=addend,
                    activation=activation, **factors)  # fmt: skip
    expected = dense_product(tensors, masks, trans_a, trans_b, activation, **factors)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn(M, N, dtype=torch.float64)
    poisoned = torch.where(masks["out_mask"].to_dense(), grad, torch.nan)
    for ours, theirs in zip(torch.autograd.grad(got, tensors, poisoned),
                            torch.autograd.grad(expected, tensors, grad), strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_nan_in_dropped_operands_reaches_no_gradient():
    (a, b, bias, _), masks = problem()
    a_bad = torch.where(masks["a_mask"].to_dense(), a, torch.nan).detach().requires_grad_()
    b_bad = torch.where(masks["b_mask"].to_dense(), b, torch.nan).detach().requires_grad_()
    clean = dg.matmul(a, b, **masks, bias=bias, activation="gelu")
    dirty = dg.matmul(a_bad, b_bad, **masks, bias=bias, activation="gelu")
    torch.testing.assert_close(dirty, clean, rtol=0, atol=0)
    for ours, theirs in zip(torch.autograd.grad(dirty.sum(), (a_bad, b_bad)),
                            torch.autograd.grad(clean.sum(), (a, b)), strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_scale_tensors_scale_gradients_too():
    tensors, masks = problem()
    a, b, bias, addend = tensors
    scale, out_scale = torch.tensor(3.0), torch.tensor(0.25)
    got = dg.matmul(a, b, **masks, bias=bias, addend=addend, scale=scale, out_scale=out_scale)
    expected = dense_product(tensors, masks, False, False, None, 3.0, 0.25)
    for ours, theirs in zip(torch.autograd.grad(got.sum(), tensors),
                            torch.autograd.grad(expected.sum(), tensors), strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="scale: expected a tensor without gradient"):
        dg.matmul(a, b, scale=torch.tensor(3.0, requires_grad=True))


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_gradcheck_and_second_derivatives(activation):
    tensors, masks = problem()

    def run(a, b, bias, addend):
        return dg.matmul(a, b, **masks, bias=bias, addend=addend, activation=activation, scale=1.3)

    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors)


def arguments(masked=True, dtype=torch.float32, **rest):
    """The flat arguments of dropgemm::matmul."""
    tensors, masks = problem(masked=masked, dtype=dtype)
    packed = [MaskArguments.of(masks[f"{name}_mask"]) for name in ("a", "b", "out")]
    return (*tensors, *Product(*packed, **rest).flat())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", [0, 1, 2, 3])
def test_opcheck_matmul(masked, activation):
    opcheck(torch.ops.dropgemm.matmul, arguments(masked, activation=activation))


def test_opcheck_matmul_out():
    args = arguments(scale_tensor=torch.tensor(2.0))
    flat = [x.detach() if isinstance(x, torch.Tensor) else x for x in args]
    opcheck(torch.ops.dropgemm.matmul_out, (*flat, torch.empty(M, N)))


def test_opcheck_masks():
    step, key = torch.tensor(3), torch.tensor(-7)
    gyro = (step, 64, 40, 16, 8, 0.5, True, -5, 1, 100, 16, 4, 16, False, 1, 0, 64)
    opcheck(torch.ops.dropgemm.gyro_mask, gyro)
    opcheck(torch.ops.dropgemm.bernoulli_mask, (key, step, 10, 40, 1, 1, 0.5, 3, 0, 20))
    bits = torch.ops.dropgemm.gyro_mask(*gyro)
    opcheck(torch.ops.dropgemm.expand_mask, (bits, [64, 40, 16, 8, 0]))


def test_one_compiled_graph_serves_every_step():
    schedule = dg.GyroSchedule(64, 0.5, total_steps=8, seed=1, site=0, subnets=8, coscheduled=2,
                               tile_rows=16, tile_cols=8)  # fmt: skip
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=count, fullgraph=True)
    def run(x, w, step):
        return dg.matmul(x, w, a_mask=schedule.mask(step, 32), trans_b=True, scale=schedule.scale())

    schedule.warn_if_unused(32)
    x, w = torch.randn(32, 64), torch.randn(5, 64)
    for step in range(8):
        got = run(x, w, torch.tensor(step))
        keep = schedule.mask(step, 32, like=x).to_dense()
        torch.testing.assert_close(got, 2.0 * torch.where(keep, x, 0.0) @ w.T)
    assert len(graphs) == 1


def test_out_is_written_and_refuses_gradients():
    (a, b, _, _), masks = problem()
    out = torch.full((M, N), torch.nan, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="out: expected operands without gradient"):
        dg.matmul(a, b, out=out)
    with torch.no_grad():
        with pytest.raises(TypeError, match="out: expected a tensor on cpu like a"):
            dg.matmul(a, b, out=out.to("meta"))
        assert dg.matmul(a, b, **masks, out=out) is out
        torch.testing.assert_close(out, dg.matmul(a, b, **masks))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_forward_mode_is_refused_instead_of_giving_zeros():
    (a, b, _, _), _ = problem()
    a, b = a.detach(), b.detach()
    with pytest.raises(NotImplementedError, match="forward-mode AD"):
        torch.func.jvp(lambda x: dg.matmul(x, b), (a,), (a,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(a, a)
        with pytest.raises(NotImplementedError, match="forward-mode AD"):
            dg.matmul(dual, b)
    grad = torch.func.grad(lambda x: dg.matmul(x, b).sum())(a)
    torch.testing.assert_close(grad, b.sum(1).expand_as(a))


BAD_CALLS = {
    "dtype": (lambda a: (a.half(), a.half()), TypeError,
              "a: expected torch.float32, torch.float64 or torch.bfloat16, got torch.float16"),
    "mixed": (lambda a: (a, a.double()), TypeError, "b: expected float32"),
    "rank": (lambda a: (a[0], a), ValueError, "a: expected a 2-D tensor, got 1-D"),
    "inner": (lambda a: (a, a[:2]), ValueError, "b: expected"),
    "device": (lambda a: (a, a.to("meta")), TypeError,
               "b: expected a tensor on cpu like a, got one on meta"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_tensors_are_refused(case):
    make, error, message = BAD_CALLS[case]
    with pytest.raises(error, match=message):
        dg.matmul(*make(torch.zeros(4, 4)))


STEP, KEY = torch.tensor(1), torch.tensor(3)
BITS, LAYOUT = torch.zeros(4, 1, dtype=torch.int32), [4, 8, 1, 1, 0]
SCHEDULE = (100, 8, 2, 1, False, 1, 0, 4)
X48 = torch.zeros(4, 8)
EMPTY_TILE = "mask: expected sizes of at least 0 and tiles of at least 1, got 4x8 with tiles of 0x1"
RAW_CALLS = {  # what only the operators themselves can be given
    "gyro tile": ("gyro_mask", (STEP, 4, 8, 0, 1, 0.5, True, 0, 0, *SCHEDULE), EMPTY_TILE),
    "gyro size": ("gyro_mask", (STEP, -1, 8, 1, 1, 0.5, True, 0, 0, *SCHEDULE),
                  "mask: expected sizes .* got -1x8 with tiles of 1x1"),
    "bernoulli tile": ("bernoulli_mask", (KEY, STEP, 4, 8, 0, 1, 0.5, 0, 0, 0), EMPTY_TILE),
    "bernoulli key": ("bernoulli_mask", (KEY.repeat(2), STEP, 4, 8, 1, 1, 0.5, 0, 0, 0),
                      "key: expected torch.int64 of no dimension, got torch.int64 of shape"),
    "pattern tile": ("pattern_mask", (STEP, KEY, None, 4, 8, 0, 1, False, 1, False, 2, 0, 0, 0),
                     EMPTY_TILE),
    "pattern call": ("pattern_mask", (STEP, KEY.int(), None, 4, 8, 4, 1, False, 1, False, 2, 0, 0,
                                      0), "call: expected torch.int64 .* got torch.int32"),
    "layout": ("expand_mask", (BITS, []), "mask layout: expected .rows, cols, .* got ()"),
    "compact layout": ("compact", (X48, BITS, LAYOUT[:3], 1, 4), "mask layout: expected"),
    "compact axis": ("compact", (X48, BITS, LAYOUT, 5, 4), "axis: expected 0 .* 2 .*, got 5"),
    "compact size": ("compact", (X48, BITS, LAYOUT, 1, -1), "size: expected at least 0, got -1"),
    "expand layout": ("expand", (X48, BITS, LAYOUT[:2], 1), "mask layout: expected"),
    "expand axis": ("expand", (X48, BITS, LAYOUT, -1), "axis: expected 0 .* 2 .*, got -1"),
    "expand room": ("expand", (X48[:, :4], torch.full_like(BITS, 255), LAYOUT, 1),
                    "xc: expected a size of at least 8, got 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW_CALLS)
def test_operators_name_what_they_refuse(case):
    name, arguments, message = RAW_CALLS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(torch.ops.dropgemm, name)(*arguments)


def test_bits_of_the_wrong_size_are_refused():
    tensors, (bits, layout, *rest) = arguments()[:4], arguments()[4:]
    with pytest.raises(ValueError, match="mask bits: expected 3 contiguous words"):
        torch.ops.dropgemm.matmul(*tensors, bits[:1], layout, *rest)
    with pytest.raises(ValueError, match="mask layout: expected"):
        torch.ops.dropgemm.matmul(*tensors, bits, [9, 11, 0, 1, 0], *rest)


def test_numpy_and_torch_agree_to_the_bit():
    (a, b, bias, _), masks = problem(dtype=torch.float32)
    as_numpy = {
        name: dg.TileMask(mask.bits.numpy(), mask.shape, mask.tile) for name, mask in masks.items()
    }
    got = dg.matmul(*(t.detach().numpy() for t in (a, b)), **as_numpy, bias=bias.detach().numpy())
    np.testing.assert_array_equal(got, dg.matmul(a, b, **masks, bias=bias).detach().numpy())
