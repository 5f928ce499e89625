"""dropgemm._xla's foreign functions in JAX programs: one function here for each of them.

Their arguments are arrays or tracers that have been checked; what is no array is fixed when a
program is compiled. vmap calls them one after the other. The same call is made on every platform:
which it will be is not known while JAX traces.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.ffi
import jax.numpy as jnp
import numpy as np

from dropgemm import _core
from dropgemm.framework import DTYPES, Array, Pair, bits_shape, compact_shape

if TYPE_CHECKING:
    from dropgemm.pattern import PatternLayout
    from dropgemm.tile_mask import TileMask

Shape = tuple[int, ...]

_NO_LAYOUT = np.zeros(0, np.int64)


class Product(NamedTuple):
    """What is fixed of a product; activation and precision are the core's numbers."""

    trans_a: bool = False
    trans_b: bool = False
    activation: int = 0
    scale: float = 1.0
    out_scale: float = 1.0
    precision: int = 0
    deterministic: bool = False
    aux: bool = False  # whether the pre-activation is wanted too

    def shape(self, a: Array, b: Array) -> Pair:
        """Of the result."""
        return a.shape[1 if self.trans_a else 0], b.shape[0 if self.trans_b else 1]


class Operands(NamedTuple):
    """The arrays of a product, a pytree."""

    a: Array
    b: Array
    a_mask: TileMask | None = None
    b_mask: TileMask | None = None
    out_mask: TileMask | None = None
    bias: Array | None = None
    addend: Array | None = None
    scale: Array | None = None
    out_scale: Array | None = None


def matmul(product: Product, operands: Operands) -> tuple[Array, Array | None]:
    """D, and Z where it is wanted, of dropgemm/gemm.h."""
    a, b, *optional = operands
    shape = product.shape(a, b)
    masks = (operands.a_mask, operands.b_mask, operands.out_mask)
    arrays = [mask.bits for mask in masks if mask is not None]
    arrays += [array for array in optional[len(masks) :] if array is not None]
    results: list[tuple[Shape, Any]] = [(shape, a.dtype)] * (2 if product.aux else 1)
    workspace = _workspace_bytes(product, operands)
    if workspace is not None:
        results.append(((workspace,), jnp.uint8))
    attributes: dict[str, Any] = {}
    for name, mask in zip(("a", "b", "out"), masks, strict=True):
        attributes[f"{name}_mask"] = _NO_LAYOUT if mask is None else _mask_layout(mask)
        attributes[f"{name}_keep"] = np.float64(1.0 if mask is None else mask.keep_hint)
    d, *rest = _call(
        "matmul" if workspace is None else "matmul_in_workspace",
        results,
        a,
        b,
        *arrays,
        **attributes,
        trans_a=np.bool_(product.trans_a),
        trans_b=np.bool_(product.trans_b),
        bias=np.bool_(operands.bias is not None),
        addend=np.bool_(operands.addend is not None),
        scale_array=np.bool_(operands.scale is not None),
        out_scale_array=np.bool_(operands.out_scale is not None),
        aux_out=np.bool_(product.aux),
        workspace=np.bool_(workspace is not None),
        scale=np.float64(product.scale),
        out_scale=np.float64(product.out_scale),
        activation=np.int64(product.activation),
        precision=np.int64(product.precision),
        deterministic=np.bool_(product.deterministic),
    )
    return d, rest[0] if product.aux else None


def bernoulli_bits(
    shape: Pair, tile: Pair, p: float, seed: int, site: int, step: Array, call: int, first_row: int
) -> Array:
    """The bits of bernoulli_mask."""
    (bits,) = _call(
        "bernoulli_mask",
        [(bits_shape(shape, tile), jnp.uint32)],
        _halves(step),
        layout=_layout(*shape, *tile),
        p=np.float64(p),
        seed=_seed(seed),
        site=np.int64(site),
        call=np.int64(call),
        first_row=np.int64(first_row),
    )
    return bits


def gyro_bits(shape: Pair, tile: Pair, arguments: tuple[Any, ...]) -> Array:
    """The bits of a GyroSchedule's mask, from its arguments()."""
    p, exact, seed, site, step, *schedule, random_order, rows_per_sample, first, batch = arguments
    total_steps, subnets, coscheduled, group_rows = map(np.int64, schedule)
    (bits,) = _call(
        "gyro_mask",
        [(bits_shape(shape, tile), jnp.uint32)],
        _halves(step),
        layout=_layout(*shape, *tile),
        p=np.float64(p),
        exact=np.bool_(exact),
        seed=_seed(seed),
        site=np.int64(site),
        total_steps=total_steps,
        subnets=subnets,
        coscheduled=coscheduled,
        group_rows=group_rows,
        random_order=np.bool_(random_order),
        rows_per_sample=np.int64(rows_per_sample),
        first=np.int64(first),
        batch=np.int64(batch),
    )
    return bits


def pattern_bits(
    layout: PatternLayout,
    thresholds: np.typing.NDArray[np.uint64],
    seed: int,
    site: int,
    step: Array,
    call: int,
) -> tuple[Array, Array]:
    """The bits of a pattern that is drawn, and its scale."""
    bits, scale = _call(
        "pattern_mask",
        [(bits_shape(layout.shape, layout.tile), jnp.uint32), ((), jnp.float32)],
        _halves(step),
        jnp.asarray(thresholds.view(np.uint32).reshape(-1, 2)),
        layout=_layout(*layout.shape, *layout.tile),
        tiles=np.bool_(layout.tiles),
        skew=np.int64(layout.skew),
        linear=np.bool_(layout.linear),
        seed=_seed(seed),
        site=np.int64(site),
        call=np.int64(call),
    )
    return bits, scale


def compact(x: Array, mask: TileMask, axis: int, size: int) -> Array:
    """dropgemm.compact; axis is the core's number."""
    (xc,) = _call(
        "compact",
        [(compact_shape(mask.shape, mask.tile, axis, size), x.dtype)],
        x,
        mask.bits,
        mask=_mask_layout(mask),
        axis=np.int64(axis),
    )
    return xc


def expand(xc: Array, mask: TileMask, axis: int) -> Array:
    """dropgemm.expand; axis is the core's number."""
    (x,) = _call(
        "expand",
        [(mask.shape, xc.dtype)],
        xc,
        mask.bits,
        mask=_mask_layout(mask),
        axis=np.int64(axis),
    )
    return x


def vary(tree: Any) -> Any:
    """Arrays that vary over the same axes of a mesh, as a call within shard_map needs them.

    A weight that all devices share becomes one of each device, whose gradients are then summed.
    """
    return _over(_varying(jax.tree.leaves(tree)), tree)


def _over(axes: frozenset[Any], tree: Any) -> Any:
    def cast(array: Array) -> Array:
        missing = tuple(axes - _varying([array]))
        return jax.lax.pcast(array, missing, to="varying") if missing else array

    return jax.tree.map(cast, tree) if axes else tree


def _varying(arrays: list[Array]) -> frozenset[Any]:
    """The axes of a mesh that any of the arrays varies over; none where JAX has no pcast."""
    axes: frozenset[Any] = frozenset()
    for array in arrays if hasattr(jax.lax, "pcast") else ():
        kind: Any = jax.typeof(array)
        axes |= kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
    return axes


def _call(
    name: str, results: list[tuple[Shape, Any]], *operands: Array, **attributes: Any
) -> list[Array]:
    _register()
    kinds = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    call = jax.ffi.ffi_call(f"dropgemm.{name}", kinds, vmap_method="sequential")
    return list(_over(_varying(list(operands)), call(*operands, **attributes)))


def core_arguments(product: Product, operands: Operands) -> dict[str, Any]:
    """A product as dropgemm._core takes it, on made-up addresses that lie apart: for what looks at
    layouts alone."""
    places = iter(range(1 << 56, 1 << 62, 1 << 56))

    def matrix(array: Array | None, shape: Pair | None = None) -> tuple[int, ...] | None:
        if array is None:
            return None
        shape = shape or array.shape
        return next(places), DTYPES[array.dtype.name], *shape, shape[1], 1

    def layout(mask: TileMask | None) -> tuple[Any, ...] | None:
        if mask is None:
            return None
        return next(places), *mask.shape, *mask.tile, mask.keep_hint, mask.transposed

    a, b, a_mask, b_mask, out_mask, bias, addend, scale, out_scale = operands
    shape = product.shape(a, b)
    return {
        "a": matrix(a),
        "b": matrix(b),
        "d": matrix(a, shape),
        "a_mask": layout(a_mask),
        "b_mask": layout(b_mask),
        "d_mask": layout(out_mask),
        "trans_a": product.trans_a,
        "trans_b": product.trans_b,
        "scale": product.scale,
        "out_scale": product.out_scale,
        "scale_array": None if scale is None else next(places),
        "out_scale_array": None if out_scale is None else next(places),
        "addend": matrix(addend),
        "bias": None if bias is None else (next(places), DTYPES[bias.dtype.name], len(bias), 1),
        "activation": product.activation,
        "aux_out": matrix(a, shape) if product.aux else None,
        "precision": product.precision,
        "deterministic": product.deterministic,
    }


def _workspace_bytes(product: Product, operands: Operands) -> int | None:
    """Of the cuda backend, or None where no GPU is in sight: a program that is exported to one from
    here is given scratch memory by XLA there, and is not captured in graphs."""
    if not _has_gpu():
        return None
    return _core.matmul_workspace_bytes(**core_arguments(product, operands), backend="cuda")


@cache
def _has_gpu() -> bool:
    """Whether JAX's programs run on GPUs here unless they are told otherwise, and can call ours."""
    return jax.default_backend() == "gpu" and "cuda" in _core.backends()


@cache
def _register() -> None:
    """Makes the functions known to XLA, once."""
    try:
        xla: Any = import_module("dropgemm._xla")
    except ModuleNotFoundError:
        raise RuntimeError(
            "jax: expected a dropgemm that was built where jaxlib is, got one without its foreign "
            "functions, whose JAX arrays have to have values; outside of jit and grad they do. "
            "Install jax, then dropgemm again with --no-build-isolation"
        ) from None
    try:
        for platform, targets in (("cpu", xla.cpu_targets()), ("CUDA", xla.cuda_targets())):
            for name, target in targets.items():
                jax.ffi.register_ffi_target(f"dropgemm.{name}", target, platform=platform)
    except RuntimeError as error:
        raise RuntimeError(
            f"jax: expected an XLA that takes foreign functions of version {xla.API_VERSION}, got "
            f"that of JAX {jax.__version__}. Install a newer JAX, or dropgemm again with "
            "--no-build-isolation"
        ) from error


def _halves(step: Array) -> Array:
    """A step as an int64 in two words, the low one first: JAX may have no numbers of 64 bits."""
    if step.dtype.itemsize == 8:
        return jax.lax.bitcast_convert_type(step, jnp.uint32)
    high = jnp.where(step < 0, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))
    return jnp.stack([step.astype(jnp.uint32), high])


def _layout(*numbers: int) -> np.typing.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def _mask_layout(mask: TileMask) -> np.typing.NDArray[np.int64]:
    return _layout(*mask.shape, *mask.tile, mask.transposed)


def _seed(seed: int) -> np.int64:
    """A seed as the int64 of the same bits."""
    return np.uint64(seed).view(np.int64)
