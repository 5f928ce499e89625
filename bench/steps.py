"""Who trains an MLP, and how: whole steps, forward, loss, backward and update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import clever
import conventional
import torch
from cases import Step
from timing import Contender

from dropgemm.demo import variants
from dropgemm.demo.variants import Task, Variant
from dropgemm.methods import Method


def _select(task: Task) -> Variant:
    """index_select and mm under "medium", one pattern a batch."""
    model = clever.SelectMLP(*variants.mlp(task))
    return Variant("index_select", model, variants.make_optimizer(model, task), "medium")


def _compiled(task: Task) -> Variant:
    """nn.Dropout, forward and backward compiled by torch.compile, which fuses it."""
    variant = variants.stock(task)
    return replace(variant, model=conventional.compiled(variant.model))


BASELINES: dict[str, Callable[[Task], Variant]] = {
    "stock": variants.stock,
    "medium": variants.medium,
    "bf16": variants.bf16,
    "compiled": _compiled,
    "ready masks": variants.medium_precomputed,
    "index_select": _select,
    "dense": lambda task: variants.converted(task, "bernoulli"),
}


def _medium(task: Task, method: Method) -> Variant:
    variant = variants.converted(task, method)
    variant.precision = "medium"
    return variant


def _bf16(task: Task, method: Method) -> Variant:
    variant = variants.converted(task, method)
    variant.autocast = torch.bfloat16
    return variant


# By method.
OWN: dict[str, Callable[[Task, Method], Variant]] = {
    "dropgemm": variants.converted,
    "dropgemm SGD": partial(variants.converted, own_sgd=True),
    "dropgemm medium": _medium,
    "dropgemm bf16": _bf16,
}


def contenders(step: Step, device: str = "cpu") -> dict[str, Contender]:
    """Every contender of a step, by a name of its own."""
    task = Task(
        784, step.hidden, 10, step.p, step.batch, total_steps=1000, seed=0,
        tile_rows=step.rows or step.batch, tile_cols=step.cols, optimizer=step.optimizer,
        device=device,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(step.batch, task.features, generator=generator).to(device)
    y = torch.randint(0, task.classes, (step.batch,), generator=generator).to(device)
    found = {}
    for name in step.contenders:
        if name == "dropgemm SGD" and step.optimizer == "adam":
            continue
        for method in step.methods if name in OWN else (None,):
            variant = BASELINES[name](task) if method is None else OWN[name](task, method)
            variant.model.train()
            if step.dtype != "float32":
                variant.autocast = getattr(torch, step.dtype)
            run = lambda variant=variant: variant.step(x, y)  # noqa: E731
            dropped = {} if method is None else {"method": method, "rows": step.rows}
            found[name if method is None else f"{name}: {method}"] = Contender(
                name, dropped, {"step": [(1.0, run)]}, variant.settings
            )
    return found
