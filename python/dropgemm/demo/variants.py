"""The networks that are compared: same weights, same data, another way to drop neurons."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

import dropgemm.torch
from dropgemm.methods import Method
from dropgemm.schedule import ScaleKind
from dropgemm.search import SearchMethod

OptimizerName = Literal["momentum", "sgd", "adam"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
MOMENTUM = 0.9
MIN_STEPS_PER_SET = 30


@dataclass(frozen=True)
class Task:
    """What is trained: an MLP features-hidden-hidden-classes for a number of steps."""

    features: int
    hidden: int
    classes: int
    p: float
    batch: int
    total_steps: int
    seed: int
    coscheduled: int = 8
    tile_rows: int = 128
    tile_cols: int = 32
    scale: ScaleKind | None = None
    search: SearchMethod = "narrow"
    learning_rate: float = 0.05
    optimizer: OptimizerName = "momentum"
    device: str = "cpu"

    @staticmethod
    def rows_of_block(batch: int, coscheduled: int) -> int:
        """Rows of a block that let a batch train every co-scheduled subnet.

        A multiple of 8, and at most the paper's 128: fewer groups than subnets cost accuracy.
        """
        return min(128, max(8, batch // coscheduled // 8 * 8))

    @property
    def subnets(self) -> int:
        """As many as leave every set of `coscheduled` subnets at least 30 steps, 1024 at most."""
        wanted = self.total_steps * self.coscheduled // MIN_STEPS_PER_SET
        return max(self.coscheduled, min(1024, wanted))


class PrecomputedDropout(nn.Module):
    """Conventional dropout whose masks were drawn beforehand: no random numbers in the step."""

    masks: torch.Tensor

    def __init__(self, p: float, rows: int, features: int, pool: int = 8) -> None:
        super().__init__()
        keep = torch.rand(pool, rows, features) >= p
        self.register_buffer("masks", keep.float() / (1 - p), persistent=False)
        self.turn = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        self.turn = (self.turn + 1) % len(self.masks)
        return x * self.masks[self.turn]


@dataclass
class Variant:
    """A network, its optimizer, and the settings that its steps run under."""

    name: str
    model: nn.Sequential
    optimizer: torch.optim.Optimizer
    precision: str = "highest"  # torch.set_float32_matmul_precision
    schedule: object = None
    autocast: torch.dtype | None = None

    @contextmanager
    def settings(self) -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One training step: forward, loss, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        # Entered anew in each step: autocast keeps the weights that it has cast until it is left.
        with torch.autocast(x.device.type, self.autocast, enabled=self.autocast is not None):
            loss = nn.functional.cross_entropy(self.model(x), y)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach()


def mlp(task: Task) -> nn.Sequential:
    """Build the network, with weights that depend on the seed alone."""
    torch.manual_seed(task.seed)
    h = task.hidden
    model = nn.Sequential(
        nn.Linear(task.features, h),
        nn.ReLU(),
        nn.Dropout(task.p),
        nn.Linear(h, h),
        nn.ReLU(),
        nn.Dropout(task.p),
        nn.Linear(h, task.classes),
    )
    return model.to(task.device)


def make_optimizer(model: nn.Module, task: Task, *, own_sgd: bool = False) -> torch.optim.Optimizer:
    """The task's optimizer, with PyTorch's fastest update, the fused one, or with dropgemm's."""
    if task.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=task.learning_rate, fused=True)
    momentum = MOMENTUM if task.optimizer == "momentum" else 0.0
    if own_sgd:
        return dropgemm.torch.SGD(model.parameters(), task.learning_rate, momentum)
    return torch.optim.SGD(model.parameters(), lr=task.learning_rate, momentum=momentum, fused=True)


def _conventional(name: str, task: Task, precision: str) -> Variant:
    model = mlp(task)
    return Variant(name, model, make_optimizer(model, task), precision)


def stock(task: Task) -> Variant:
    """`nn.Dropout`, PyTorch as it comes."""
    return _conventional("conventional, stock PyTorch", task, "highest")


def medium(task: Task) -> Variant:
    """`nn.Dropout` under set_float32_matmul_precision("medium"), the fastest dense float32."""
    return _conventional('conventional, "medium"', task, "medium")


def bf16(task: Task) -> Variant:
    """`nn.Dropout` under autocast to bfloat16."""
    variant = _conventional("conventional, bfloat16", task, "highest")
    variant.autocast = torch.bfloat16
    return variant


def medium_precomputed(task: Task) -> Variant:
    """As medium, with masks drawn beforehand: what is left is the multiplication."""
    variant = _conventional('conventional, "medium", ready masks', task, "medium")
    for index, module in enumerate(variant.model):
        if isinstance(module, nn.Dropout):
            ready = PrecomputedDropout(task.p, task.batch, task.hidden)
            variant.model[index] = ready.to(task.device)
    return variant


BASELINES: tuple[Callable[[Task], Variant], ...] = (stock, medium, medium_precomputed)

# How each method of convert is called in tables.
NAMES: dict[Method, str] = {
    "block": "block-wise gyro, dropgemm",
    "gyro": "gyro, dropgemm",
    "row": "row patterns, dropgemm",
    "tile": "tile patterns, dropgemm",
    "bernoulli": "conventional, dropgemm",
}


def converted(task: Task, method: Method, *, own_sgd: bool = False) -> Variant:
    """The network with every dropout converted to one method."""
    model = mlp(task)
    optimizer = make_optimizer(model, task, own_sgd=own_sgd)
    schedule = dropgemm.torch.convert(
        model,
        optimizer,
        method=method,
        total_steps=task.total_steps,
        seed=task.seed,
        subnets=task.subnets,
        coscheduled=task.coscheduled,
        tile_rows=task.tile_rows,
        tile_cols=task.tile_cols,
        scale=task.scale,
        search=task.search,
    )
    model.to(task.device)  # the clock that convert has added
    return Variant(NAMES[method], model, optimizer, schedule=schedule)
