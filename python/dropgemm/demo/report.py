"""The demo's table and plot."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAVY
from rich.console import Console
from rich.table import Table

from dropgemm.demo.session import Outcome

BASELINES = {
    "conventional, stock PyTorch": "times\nstock",
    'conventional, "medium"': 'times\n"medium"',
    'conventional, "medium", ready masks': "times\nready",
}


def show(outcome: Outcome, plot: Path) -> None:
    """Print the table and save the plot."""
    console = Console()
    task = outcome.task
    steps_per_set = task.total_steps * task.coscheduled / task.subnets
    console.print(
        f"\n{outcome.dataset}: {task.features}-{task.hidden}-{task.hidden}-{task.classes}, "
        f"p = {task.p}, batch {task.batch}, {_count(outcome.epochs, 'epoch')} = "
        f"{_count(task.total_steps, 'step')}, {_count(outcome.threads, 'thread')}, seed {task.seed}"
    )
    console.print(
        f"gyro schedules: {task.subnets} subnets, {task.coscheduled} at a time, "
        f"a set serves {steps_per_set:.1f} steps; "
        f"block-wise: {task.tile_rows} rows x 32 neurons\n"
    )
    console.print(_table(outcome))
    console.print(
        "Step times: medians, taken in turn in one process; spread: interquartile range. "
        "Times: how many times faster than each baseline. "
        '"medium": torch.set_float32_matmul_precision("medium"). '
        "Ready masks: drawn beforehand, so no random numbers are on the clock."
    )
    _plot(outcome, plot)
    console.print(f"Accuracy against time: {plot}")


def _table(outcome: Outcome) -> Table:
    # Narrow enough for 80 columns: names wrap before a figure does.
    table = Table(box=SIMPLE_HEAVY)
    table.add_column("dropout", min_width=20, vertical="bottom")
    for heading in ("test\naccuracy", "ms a\nstep", "spread", *BASELINES.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    accuracy = {run.name: run.accuracy[-1] for run in outcome.runs}
    times = outcome.times
    for name in times.seconds:
        table.add_row(
            name,
            f"{100 * accuracy[name]:.2f} %" if name in accuracy else "as stock",
            f"{1e3 * times.median(name):.1f}",
            f"{100 * times.spread(name):.0f} %",
            *(f"{times.speedup(name, baseline):.2f}" for baseline in BASELINES),
        )
    return table


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _plot(outcome: Outcome, path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for run in outcome.runs:
        axes.plot(run.seconds, [100 * a for a in run.accuracy], marker="o", label=run.name)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"{outcome.dataset}, p = {outcome.task.p}, batch {outcome.task.batch}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
