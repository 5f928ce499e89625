"""Trains a network on Fashion-MNIST in plain JAX, by conventional dropout and by ours.

    python jax_images.py --epochs 3 --methods conventional block row

Two hidden layers with dropout. Parameters are a list of (kernel, bias), the optimizer is momentum
SGD. A whole step is one compiled function of the parameters, the batch and the step's number, from
which masks are drawn inside.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dropgemm as dg
from dropgemm.demo import data
from dropgemm.jax import dense

P, MOMENTUM = 0.5, 0.9
# One pattern for a whole batch is noisier, and wants a smaller rate.
LEARNING_RATES = {"conventional": 0.05, "block": 0.05, "row": 0.01}

Params = list[tuple[jax.Array, jax.Array]]
Sites = Callable[[Any], list[tuple[dg.TileMask, Any]]]  # step -> mask and scale of each layer


def make_sites(method: str, widths: list[int], batch: int, steps: int) -> Sites:
    """The masks of hidden layers, each a site of its own."""
    if method == "block":
        rows = max(batch // 8, 8)  # eight subnets at a time, each with its rows of the batch
        schedules = [
            dg.GyroSchedule(width, P, total_steps=steps, seed=0, site=site, tile_rows=rows,
                            tile_cols=32, subnets=max(steps * 8 // 30, 8))
            for site, width in enumerate(widths)
        ]  # fmt: skip
        return lambda step: [(one.mask(step, batch), one.scale()) for one in schedules]
    patterns = dg.search_distribution(P, method="narrow")
    return lambda step: [
        patterns.mask(seed=0, site=site, step=step, rows=batch, cols=width)
        for site, width in enumerate(widths)
    ]


def initialize(key: jax.Array, widths: list[int]) -> Params:
    """Kernels [in, out] of variance 2 / in, biases 0."""
    keys = jax.random.split(key, len(widths) - 1)
    return [
        (jax.random.normal(k, (i, o)) * (2 / i) ** 0.5, jnp.zeros(o))
        for k, i, o in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def skipping(params: Params, x: jax.Array, sites: Sites, step: jax.Array) -> jax.Array:
    """Logits, where each layer skips what is dropped of its inputs and outputs."""
    *hidden, last = params
    in_mask, scale = None, 1.0
    for layer, (out_mask, next_scale) in zip(hidden, sites(step), strict=True):
        x = dense(x, *layer, in_mask=in_mask, out_mask=out_mask, activation="relu", scale=scale)
        in_mask, scale = out_mask, next_scale
    return dense(x, *last, in_mask=in_mask, scale=scale)


def conventional(params: Params, x: jax.Array, step: jax.Array) -> jax.Array:
    """Logits of the same network with conventional dropout, by JAX alone."""
    *hidden, (last_kernel, last_bias) = params
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), step), len(hidden))
    for key, (kernel, bias) in zip(keys, hidden, strict=True):
        x = jax.nn.relu(x @ kernel + bias)
        x = jnp.where(jax.random.bernoulli(key, 1 - P, x.shape), x / (1 - P), 0)
    return x @ last_kernel + last_bias


def evaluate(params: Params, x: jax.Array) -> jax.Array:
    """Logits without dropout."""
    *hidden, (last_kernel, last_bias) = params
    for kernel, bias in hidden:
        x = jax.nn.relu(x @ kernel + bias)
    return x @ last_kernel + last_bias


def make_step(forward: Callable[..., jax.Array], learning_rate: float) -> Callable[..., Any]:
    """One step of momentum SGD, compiled once for all steps."""

    def loss(params: Params, x: jax.Array, y: jax.Array, step: jax.Array) -> jax.Array:
        chances = jax.nn.log_softmax(forward(params, x, step=step))
        return -jnp.take_along_axis(chances, y[:, None], 1).mean()

    def train(params: Params, velocity: Params, x: Any, y: Any, step: jax.Array) -> Any:
        gradient = jax.grad(loss)(params, x, y, step)
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradient)
        return jax.tree.map(lambda p, v: p - learning_rate * v, params, velocity), velocity

    return jax.jit(train, donate_argnums=(0, 1))


def train(method: str, dataset: data.Dataset, args: argparse.Namespace) -> float:
    """Trains by one method; prints and returns the accuracy after the last epoch."""
    widths = [args.hidden, args.hidden]
    per_epoch = len(dataset.train_x) // args.batch
    if method == "conventional":
        forward: Callable[..., jax.Array] = conventional
    else:
        sites = make_sites(method, widths, args.batch, args.epochs * per_epoch)
        forward = partial(skipping, sites=sites)
    step = make_step(forward, LEARNING_RATES[method])
    params = initialize(jax.random.key(1), [dataset.train_x.shape[1], *widths, 10])
    velocity = jax.tree.map(jnp.zeros_like, params)
    predict = jax.jit(evaluate)
    times, number, accuracy = [], 0, 0.0
    for epoch in range(args.epochs):
        order = np.random.default_rng(epoch).permutation(len(dataset.train_x))
        for rows in np.split(order[: per_epoch * args.batch], per_epoch):
            x, y = dataset.train_x[rows], dataset.train_y[rows]
            start = time.perf_counter()
            params, velocity = jax.block_until_ready(step(params, velocity, x, y, number))
            times.append(time.perf_counter() - start)
            number += 1
        guesses = predict(params, dataset.test_x).argmax(1)
        accuracy = float((guesses == dataset.test_y).mean())
    took = 1000 * statistics.median(times)
    print(f"{method:12} accuracy {100 * accuracy:.2f} %, {took:.1f} ms a step")
    return accuracy


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=LEARNING_RATES, default=[*LEARNING_RATES])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=2048, help="width of both layers (2048)")
    args = parser.parse_args(arguments)
    dataset = data.load()
    print(f"{dataset.name}, {len(dataset.train_x)} images")
    return {method: train(method, dataset, args) for method in args.methods}


if __name__ == "__main__":
    main()
