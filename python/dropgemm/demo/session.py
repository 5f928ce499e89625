"""What the demo does, without how it looks: training runs, then step times."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from rich.progress import Progress

from dropgemm.demo import data, timing, variants
from dropgemm.demo.variants import Task, Variant
from dropgemm.methods import Method

POINTS_PER_EPOCH = 2
EVAL_ROWS = 2000


@dataclass
class Run:
    """One training run: seconds spent in training steps, and test accuracy, at each point."""

    name: str
    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """Everything the report shows."""

    dataset: str
    task: Task
    epochs: int
    threads: int
    runs: list[Run]
    times: timing.StepTimes


@torch.no_grad()
def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the share of rows classified right, in eval mode."""
    model.eval()
    right = 0
    for start in range(0, len(y), EVAL_ROWS):
        rows = slice(start, start + EVAL_ROWS)
        right += int((model(x[rows]).argmax(1) == y[rows]).sum())
    model.train()
    return right / len(y)


def make_task(args: argparse.Namespace, dataset: data.Dataset) -> Task:
    """Make the demo's task; raises ValueError where a batch is larger than the dataset."""
    rows = len(dataset.train_x)
    if args.batch > rows:
        raise ValueError(f"--batch: expected at most the {rows} training rows, got {args.batch}")
    return Task(
        features=dataset.train_x.shape[1],
        hidden=args.hidden,
        classes=int(dataset.train_y.max()) + 1,
        p=args.p,
        batch=args.batch,
        total_steps=args.epochs * (rows // args.batch),
        seed=args.seed,
        coscheduled=args.coscheduled,
        tile_rows=Task.rows_of_block(args.batch, args.coscheduled),
    )


def train(variant: Variant, task: Task, dataset: data.Dataset, progress: Progress) -> Run:
    """Trains for the task's steps; only the steps themselves are on the clock."""
    order = torch.Generator().manual_seed(task.seed)
    per_epoch = len(dataset.train_x) // task.batch
    every = max(1, per_epoch // POINTS_PER_EPOCH)
    run = Run(variant.name)
    bar = progress.add_task(variant.name, total=task.total_steps)
    spent = 0.0
    permutation = torch.empty(0, dtype=torch.int64)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(variant.optimizer, task.total_steps)
    variant.model.train()
    for step in range(task.total_steps):
        if step % per_epoch == 0:
            permutation = torch.randperm(len(dataset.train_x), generator=order)
        rows = permutation[step % per_epoch * task.batch :][: task.batch]
        x, y = dataset.train_x[rows], dataset.train_y[rows]
        start = time.perf_counter()
        variant.step(x, y)
        spent += time.perf_counter() - start
        decay.step()
        progress.advance(bar)
        if (step + 1) % every == 0 or step + 1 == task.total_steps:
            run.seconds.append(spent)
            run.accuracy.append(accuracy(variant.model, dataset.test_x, dataset.test_y))
    return run


def run(task: Task, epochs: int, dataset: data.Dataset, methods: Sequence[Method]) -> Outcome:
    """Trains every variant from the same weights on the same batches, then times their steps."""
    chosen: list[Callable[[Task], Variant]] = [
        partial(variants.converted, method=method) for method in methods
    ]
    runs = []
    with Progress() as progress:
        trained: list[Callable[[Task], Variant]] = [variants.stock, *chosen]
        for make in trained:
            torch.manual_seed(task.seed)
            variant = make(task)
            with variant.settings():
                runs.append(train(variant, task, dataset, progress))
        timed = [*variants.BASELINES, *chosen]
        # A schedule for the steps of timing, where training has fewer.
        enough = replace(task, total_steps=max(task.total_steps, timing.STEPS))
        contenders = [make(enough) for make in timed]
        batch = dataset.train_x[: task.batch], dataset.train_y[: task.batch]
        times = timing.interleaved(contenders, *batch, progress=progress)
    return Outcome(dataset.name, task, epochs, torch.get_num_threads(), runs, times)
