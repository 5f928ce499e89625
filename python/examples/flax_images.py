"""Trains a Flax module on Fashion-MNIST, whose layers skip what block-wise dropout drops.

    python flax_images.py --epochs 3

SkippingDense is a flax.linen.Dense whose call takes masks; its parameters have the same names and
shapes, so that one checkpoint serves a network of either. Needs flax and optax beside JAX.
"""

from __future__ import annotations

import argparse
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import dropgemm as dg
import dropgemm.jax
from dropgemm.demo import data


class SkippingDense(nn.Module):
    """x @ kernel + bias; masks as in dropgemm.jax.dense."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, **masks: Any) -> jax.Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return dropgemm.jax.dense(x, kernel, bias, **masks)


class Network(nn.Module):
    """Two hidden layers with dropout of rate p behind each, by block-wise gyro."""

    width: int
    total_steps: int
    p: float = 0.5
    tile_rows: int = 32

    def schedule(self, site: int) -> dg.GyroSchedule:
        """The masks of one of the dropouts."""
        return dg.GyroSchedule(
            self.width, self.p, total_steps=self.total_steps, seed=0, site=site,
            tile_rows=self.tile_rows, tile_cols=32, subnets=max(self.total_steps * 8 // 30, 8),
        )  # fmt: skip

    @nn.compact
    def __call__(self, x: jax.Array, step: Any = None) -> jax.Array:
        """Logits; without a step nothing is dropped."""
        if step is None:
            first = second = None
            scale = 1.0
        else:
            first, second = (self.schedule(site).mask(step, len(x)) for site in range(2))
            scale = self.schedule(0).scale()
        x = SkippingDense(self.width)(x, out_mask=first, activation="relu")
        x = SkippingDense(self.width)(
            x, in_mask=first, out_mask=second, activation="relu", scale=scale
        )
        return SkippingDense(10)(x, in_mask=second, scale=scale)


def main(arguments: list[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=1024)
    args = parser.parse_args(arguments)
    dataset = data.load()
    per_epoch = len(dataset.train_x) // args.batch
    network = Network(args.width, args.epochs * per_epoch, tile_rows=max(args.batch // 8, 8))
    params = network.init(jax.random.key(0), jnp.zeros((1, dataset.train_x.shape[1])))
    optimizer = optax.sgd(0.05, momentum=0.9)

    @jax.jit
    def train(params: Any, state: Any, x: jax.Array, y: jax.Array, step: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = network.apply(params, x, step)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, step, accuracies = optimizer.init(params), 0, []
    for epoch in range(args.epochs):
        order = np.random.default_rng(epoch).permutation(len(dataset.train_x))
        for rows in np.split(order[: per_epoch * args.batch], per_epoch):
            params, state = train(params, state, dataset.train_x[rows], dataset.train_y[rows], step)
            step += 1
        guesses = jax.jit(network.apply)(params, dataset.test_x).argmax(1)
        accuracies.append(float((guesses == dataset.test_y).mean()))
        print(f"epoch {epoch + 1}: accuracy {100 * accuracies[-1]:.2f} %")
    print(f"compiled {train._cache_size()} time(s) for {step} steps")
    return accuracies


if __name__ == "__main__":
    main()
