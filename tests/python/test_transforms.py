"""What PyTorch's transformations make of products and layers: torch.func, torch.export, ONNX."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vjp, vmap
from torch.library import opcheck

import dropgemm as dg
from dropgemm.torch import convert
from dropgemm.torch.calls import Layer, MaskArguments, Product
from networks import METHODS, RUN, TILE, make
from test_ops import K, M, N, problem

FACTORS = {"scale": 1.5, "out_scale": -0.5}
TRANSPOSES = list(itertools.product((False, True), repeat=2))


def matmul_operator(a, b, bias, addend, masks, trans_a, trans_b, activation):
    """dropgemm::matmul through PyTorch's dispatcher."""
    number = (None, "relu", "gelu", "gelu_tanh").index(activation)
    listed = [MaskArguments.of(masks[f"{name}_mask"]) for name in ("a", "b", "out")]
    product = Product(*listed, trans_a, trans_b, number, **FACTORS)
    return torch.ops.dropgemm.matmul(a, b, bias, addend, *product.flat())


def assert_equal(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize(("trans_a", "trans_b"), TRANSPOSES)
def test_the_operator_has_the_bits_of_the_short_way(trans_a, trans_b, activation, dtype):
    tensors, masks = problem(trans_a, trans_b, dtype=dtype)
    a, b, bias, addend = tensors
    short = dg.matmul(a, b, **masks, trans_a=trans_a, trans_b=trans_b, bias=bias, addend=addend,
                      activation=activation, **FACTORS)  # fmt: skip
    long = matmul_operator(*tensors, masks, trans_a, trans_b, activation)
    assert "Matmul" in type(short.grad_fn).__name__ != type(long.grad_fn).__name__
    assert torch.equal(short, long)
    weights = torch.linspace(-1.0, 1.0, M * N, dtype=dtype).view(M, N)
    assert_equal(*(torch.autograd.grad(y, tensors, weights) for y in (short, long)))


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_torch_func_has_the_bits_of_the_short_way(activation):
    tensors, masks = problem()
    weights = torch.linspace(-1.0, 1.0, M * N, dtype=torch.float64).view(M, N)

    def run(a, b, bias, addend):
        return dg.matmul(a, b, **masks, bias=bias, addend=addend, activation=activation, **FACTORS)

    y = run(*tensors)
    expected = torch.autograd.grad(y, tensors, weights)
    plain = [tensor.detach() for tensor in tensors]
    value, pull_back = vjp(run, *plain)
    assert torch.equal(value, y)
    assert_equal(pull_back(weights), expected)
    gradients = grad(lambda *args: (run(*args) * weights).sum(), argnums=(0, 1, 2, 3))(*plain)
    assert_equal(gradients, expected)


@pytest.mark.parametrize("height", [2, M, 16])
@pytest.mark.parametrize("batched", ["a", "b", "a b", "addend", "a bias"])
def test_a_batch_of_products_is_that_of_each(batched, height):
    """Folded into one product where b is shared and tiles allow it; else one after the other."""
    (a, b, bias, addend), masks = problem()
    for name, shape in (("a_mask", (M, K)), ("out_mask", (M, N))):
        rows = -(-M // height)
        keep = torch.rand(rows, shape[1]).lt(0.6).repeat_interleave(height, 0)[:M].contiguous()
        masks[name] = dg.TileMask.from_dense(keep, tile=(height, 1))
    values = {"a": a, "b": b, "bias": bias, "addend": addend if "addend" in batched else None}
    for name in batched.split():
        values[name] = torch.randn(3, *values[name].shape, dtype=torch.float64)
    dims = {name: 0 if name in batched.split() else None for name in values}

    def run(values):
        return dg.matmul(**values, **masks, activation="gelu")

    got = vmap(run, in_dims=(dims,))(values)
    for index in range(3):
        one = {name: v if dims[name] is None else v[index] for name, v in values.items()}
        torch.testing.assert_close(got[index], run(one), rtol=1e-13, atol=1e-13)


def views_of_words_are_batched() -> bool:
    """Masks drawn under vmap need PyTorch's rule for views as another type, as 2.13 has it."""
    try:
        vmap(lambda words: words.view(torch.uint32))(torch.zeros(2, 2, dtype=torch.int32))
    except RuntimeError:
        return False
    return True


@pytest.mark.skipif(not views_of_words_are_batched(), reason="vmap has no rule for view.dtype")
def test_batches_of_masks_and_steps():
    x = torch.randn(4, 16, 64)
    schedule = dg.GyroSchedule(64, 0.5, total_steps=8, seed=1, site=0, subnets=8, coscheduled=2,
                               tile_rows=8, tile_cols=8)  # fmt: skip
    schedule.warn_if_unused(16)
    steps = torch.arange(4)

    def drop(x, step):
        keep = schedule.mask(step, 16).to_dense()
        sampled = dg.bernoulli_mask(16, 64, 0.5, seed=2, site=1, step=step).to_dense()
        rows, scale = dg.search_distribution(0.5).mask(3, 2, step, 16, 64)
        return torch.where(keep & sampled & rows.to_dense(), x * scale, 0.0)

    got = vmap(drop)(x, steps)
    assert_equal(got, [drop(*pair) for pair in zip(x, steps, strict=True)])


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_each_sample_of_a_layer(method):
    """vmap over a model: every sample is a batch of its own, with the mask of one."""
    model = make("mlp")
    convert(model, method=method, advance="manual", **RUN, **TILE)
    parameters = dict(model.named_parameters())
    samples = torch.randn(5, 20, dtype=torch.float64)

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).square().sum()

    torch.manual_seed(4)
    got = vmap(grad(loss), in_dims=(None, 0), randomness="same")(parameters, samples)
    for index, x in enumerate(samples):
        torch.manual_seed(4)
        expected = torch.autograd.grad(loss(parameters, x), list(parameters.values()))
        for ours, theirs in zip(got.values(), expected, strict=True):
            torch.testing.assert_close(ours[index], theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_torch_func_of_a_layer_has_the_bits_of_its_backward(method):
    model = make("mlp")
    convert(model, method=method, advance="manual", **RUN, **TILE)
    parameters = dict(model.named_parameters())
    x = torch.randn(40, 20, dtype=torch.float64)

    def loss(parameters):
        return functional_call(model, parameters, (x,)).square().sum()

    torch.manual_seed(4)
    expected = torch.autograd.grad(loss(parameters), list(parameters.values()))
    torch.manual_seed(4)
    assert_equal(grad(loss)(parameters).values(), expected)
    torch.manual_seed(4)
    _, pull_back = vjp(loss, parameters)
    assert_equal(pull_back(torch.ones((), dtype=torch.float64))[0].values(), expected)


def test_second_derivatives_of_a_layer_are_refused_by_torch_func():
    model = make("mlp")
    convert(model, method="block", advance="manual", **RUN, **TILE)

    def penalty(x):
        return grad(lambda x: model(x).square().sum())(x).square().sum()

    with pytest.raises(RuntimeError, match="a layer that skips what is dropped has no second"):
        grad(penalty)(torch.randn(8, 20, dtype=torch.float64))


def layer_arguments(kind, dtype=torch.float32):
    """The layer [12, 20] -> [12, 24] as each method masks it, flat, and what is behind bias."""
    masks = {
        "nothing": {},
        "groups": {"inputs": (20, (4, 5)), "outputs": (24, (4, 8))},
        "one group": {"inputs": (20, (12, 1)), "outputs": (24, (12, 1))},
        "elements": {"inputs": (20, (1, 1)), "outputs": (24, (1, 1))},
        "tiles": {"weights": (20, (8, 5))},
    }[kind]
    heights = {"inputs": 12, "outputs": 12, "weights": 24}
    drawn = {
        name: MaskArguments.of(
            dg.bernoulli_mask(
                heights[name], width, 0.4, seed=0, site=site, tile=tile, like=torch.empty(0)
            )
        )
        for site, (name, (width, tile)) in enumerate(masks.items())
    }
    layer = Layer(**drawn, scale=2.0, scale_tensor=torch.tensor(0.75), relu_below=kind == "groups")
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (
        torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True)
        for shape in ((12, 20), (24, 20), (24,))
    )
    return x, weight, bias, 0, *layer.flat()


KINDS = {  # the tiles of masks of a [12, 20], b [24, 20] transposed, out [12, 24]
    "groups of rows": ((4, 5), (8, 5), (4, 8)),
    "one pattern for all rows": ((12, 1), None, (12, 1)),
    "elements": ((1, 1), (1, 1), (1, 1)),
    "tiles of the weight": (None, (8, 5), None),
}


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck_matmul_with_each_kind_of_mask(kind, flipped):
    """flipped: the masks are those of the transposed matrices, with the flag that says so."""
    masks = []
    for site, (shape, tile) in enumerate(
        zip(((12, 20), (24, 20), (12, 24)), KINDS[kind], strict=True)
    ):
        if tile is None:
            masks.append(MaskArguments.of(None))
            continue
        (rows, cols), tile = (shape[::-1], tile[::-1]) if flipped else (shape, tile)
        mask = dg.bernoulli_mask(rows, cols, 0.4, seed=0, site=site, tile=tile, like=torch.empty(0))
        masks.append(MaskArguments.of(mask.T if flipped else mask))
    a, b = torch.randn(12, 20, requires_grad=True), torch.randn(24, 20, requires_grad=True)
    product = Product(*masks, trans_b=True, scale_tensor=torch.tensor(2.0))
    opcheck(torch.ops.dropgemm.matmul, (a, b, None, None, *product.flat()))


@pytest.mark.parametrize("kind", ["nothing", "groups", "one group", "elements", "tiles"])
def test_opcheck_layers(kind):
    x, weight, bias, *rest = layer_arguments(kind)
    opcheck(torch.ops.dropgemm.linear, (x, weight, bias, *rest))
    opcheck(torch.ops.dropgemm.linear, (x, weight, None, *rest))
    x, weight = x.detach(), weight.detach()
    dy = torch.randn(12, 24)
    opcheck(torch.ops.dropgemm.linear_input_grad, (dy, x, weight, *rest))
    for with_bias in (False, True):
        opcheck(torch.ops.dropgemm.linear_weight_grad, (dy, x, weight, with_bias, *rest))


def test_layer_operators_name_what_they_refuse():
    x, weight, bias, precision, bits, layout, *rest = layer_arguments("groups")
    with pytest.raises(ValueError, match="mask bits: expected 3 contiguous words"):
        torch.ops.dropgemm.linear(x, weight, bias, precision, bits[:1], layout, *rest)
    with pytest.raises(ValueError, match="input: expected a 2-D tensor, got 1-D"):
        torch.ops.dropgemm.linear(x[0], weight, bias, precision, bits, layout, *rest)


@pytest.mark.parametrize("method", METHODS)
def test_in_evaluation_a_model_exports_as_plain_layers(method):
    model = make("mlp", dtype=torch.float32)
    convert(model, method=method, advance="manual", **RUN, **TILE)
    model.eval()
    x = torch.randn(8, 20)
    rows = torch.export.Dim("rows")
    program = torch.export.export(model, (x,), dynamic_shapes=({0: rows},))
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    aten = torch.ops.aten
    assert called == [aten.linear.default, aten.relu.default, aten.linear.default,
                      aten.gelu.default, aten.linear.default]  # fmt: skip
    for batch in (x, torch.randn(3, 20)):
        assert torch.equal(program.module()(batch), model(batch))


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # of PyTorch by itself
def test_in_evaluation_a_model_is_plain_onnx():
    pytest.importorskip("onnxscript")
    model = make("mlp", dtype=torch.float32)
    convert(model, method="block", advance="manual", **RUN, **TILE)
    program = torch.onnx.export(model.eval(), (torch.randn(8, 20),), dynamo=True, verbose=False)
    kinds = [node.op_type for node in program.model.graph]
    assert [kind for kind in kinds if kind in ("Gemm", "MatMul", "Relu", "Gelu")] == [
        "Gemm", "Relu", "Gemm", "Gelu", "Gemm",
    ]  # fmt: skip
    assert not {node.domain for node in program.model.graph} - {"", "ai.onnx"}


def test_in_training_a_model_exports_with_its_operators():
    model = make("mlp", dtype=torch.float32)
    schedule = convert(model, method="block", advance="manual", **RUN, **TILE)
    x = torch.randn(32, 20)
    program = torch.export.export(model, (x,))
    names = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert torch.ops.dropgemm.linear.default in names
    assert torch.equal(program.module()(x), model(x))
    assert int(schedule.clock.step) == 0


STRIDES = {
    "rows reversed in memory order": lambda t: t.t().contiguous().t(),
    "every second column": lambda t: t.repeat_interleave(2, 1)[:, ::2],
    "one row for all": lambda t: t[:1].expand_as(t),
    "part of a larger array": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("strides", STRIDES)
def test_operands_and_gradients_of_any_strides(strides, compiled):
    lay_out = STRIDES[strides]
    (a, b, bias, addend), masks = problem()
    plain = [lay_out(tensor).contiguous() for tensor in (a, b, addend)]
    views = [lay_out(tensor.detach()).requires_grad_() for tensor in (a, b, addend)]
    grad_out = torch.randn(M, N, dtype=torch.float64)

    def run(a, b, addend):
        return dg.matmul(a, b, **masks, bias=bias, addend=addend, activation="relu")

    other = torch.compile(run, backend="aot_eager", fullgraph=True) if compiled else run
    got, expected = other(*views), run(*plain)
    assert torch.equal(got, expected)
    gradients = torch.autograd.grad(got, [*views, bias], lay_out(grad_out))
    assert_equal(
        gradients, torch.autograd.grad(expected, [*plain, bias], lay_out(grad_out).clone())
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strides", STRIDES)
def test_layers_take_inputs_of_any_strides(strides, method):
    model = make("mlp")
    convert(model, method=method, advance="manual", **RUN, **TILE)
    view = STRIDES[strides](torch.randn(32, 20, dtype=torch.float64)).requires_grad_()
    results = []
    for x in (view, view.detach().contiguous().requires_grad_()):
        torch.manual_seed(6)
        y = model(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_channels_of_any_strides_reach_a_layer():
    """Images with channels last, permuted so that the Linear sees them as its features."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 24), nn.ReLU(), nn.Dropout(0.5),
                          nn.Linear(24, 3)).double()  # fmt: skip
    convert(model, method="row", advance="manual", **RUN)
    images = torch.randn(4, 20, 3, 5, dtype=torch.float64)
    outputs = [
        model(images.to(memory_format=layout).permute(0, 2, 3, 1))
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    torch.testing.assert_close(*outputs, rtol=1e-13, atol=1e-13)
