"""`dropgemm show schedule`: which subnet trains which samples, step by step (Gyro's Figure 3)."""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from dropgemm.options import OptionError, add_choice, add_integer
from dropgemm.plots.methods import count
from dropgemm.plots.page import (
    BODY,
    HEADING,
    INK,
    MARGIN,
    QUIET,
    SMALL,
    Page,
)
from dropgemm.schedule import GyroSchedule

WIDTH, LABEL, HEIGHT = 1640, 84, 300  # pixels of a timeline, of what stands left of it
# The shades of a set, light to dark, each set in another hue than its neighbours.
HUES = (
    ("#d3e3f4", "#2f6cad"),
    ("#fbe3c6", "#c0661a"),
    ("#cdece4", "#1b7f6c"),
    ("#e6dcf2", "#74509f"),
)


class Span(NamedTuple):
    """Consecutive steps that one set of subnets serves."""

    number: int  # of the set; of the step where each step draws its own
    first_step: int
    group_rows: int
    ids: npt.NDArray[np.int64]  # [groups, steps]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the picture."""
    add_integer(parser, "--steps", 24, "training steps of the run")
    add_integer(parser, "--subnets", 16, "subnets picked before training")
    add_integer(parser, "--coscheduled", 4, "subnets trained at the same time")
    add_integer(parser, "--batch", 256, "samples of a batch")
    add_integer(
        parser,
        "--tile-rows",
        (0, 128),
        "samples that share a subnet, a timeline for each; 0: batch / coscheduled",
        low=0,
        many=True,
    )
    add_choice(parser, "--order", ("consecutive", "random"), "consecutive", "of the subnets")
    add_integer(parser, "--start", 0, "first step that is drawn", low=0)
    add_integer(parser, "--shown", 48, "steps that are drawn, at most", high=513)
    add_integer(parser, "--seed", 0, "of the random order", low=0, high=1 << 63)


def make_schedule(args: argparse.Namespace, tile_rows: int) -> GyroSchedule:
    """The schedule that the options describe; its features and rate are not drawn."""
    return GyroSchedule(
        1, 0.5, total_steps=args.steps, seed=args.seed, site=0, subnets=args.subnets,
        coscheduled=args.coscheduled, tile_rows=tile_rows or None, order=args.order,
    )  # fmt: skip


def timeline(schedule: GyroSchedule, batch: int, start: int, stop: int) -> list[Span]:
    """The subnets of steps [start, stop), set by set."""
    spans: list[Span] = []
    columns: list[npt.NDArray[np.int64]] = []
    for step in range(start, stop):
        number = set_number(schedule, step)
        if not spans or spans[-1].number != number:
            rows = schedule.mask_group_rows(step, batch)
            spans.append(Span(number, step, rows, np.empty((0, 0), np.int64)))
            columns = []
        columns.append(np.asarray(schedule.subnets(step, batch)))
        spans[-1] = spans[-1]._replace(ids=np.stack(columns, axis=1))
    return spans


def set_number(schedule: GyroSchedule, step: int) -> int:
    """The set that serves a step (include/dropgemm/schedule.h); in random order, the step."""
    if schedule.order == "random":
        return step
    n, subnets, coscheduled = schedule.total_steps, schedule.subnet_count, schedule.coscheduled
    return min(step * subnets // (n * coscheduled), -(-subnets // coscheduled) - 1)


def draw(args: argparse.Namespace) -> Page:
    """One timeline for each of the row counts, under one another."""
    if args.start >= args.steps:
        raise OptionError(
            f"--start: expected a step below --steps ({args.steps}), got {args.start}"
        )
    stop = min(args.start + args.shown, args.steps)
    page = Page(2 * MARGIN + LABEL + WIDTH)
    inner = LABEL + WIDTH
    y = page.head("Which subnet trains which samples, step by step", introduction(args)) + 24
    for tile_rows in args.tile_rows:
        schedule = make_schedule(args, tile_rows)
        spans = timeline(schedule, args.batch, args.start, stop)
        heading, explanation = describe(schedule, args.batch, spans[0])
        y = page.text(MARGIN, y, heading, HEADING, weight="bold")
        y = page.text(MARGIN, y, explanation, BODY, width=inner) + 14
        y = _draw_timeline(page, schedule, args.batch, spans, y) + 36
    return page


def introduction(args: argparse.Namespace) -> str:
    """What all timelines have in common."""
    together = min(args.coscheduled, args.subnets)
    text = f"Gyro Dropout picks {count(args.subnets, 'subnet')} before training"
    if args.order == "random":
        text += f"; in random order, each step draws {together} of them anew"
    else:
        steps = f"{args.steps * together / args.subnets:,.1f}".removesuffix(".0")
        text += f" and trains {together} at a time: such a set serves {steps} steps of training"
    return (
        f"{text}. Columns are steps, rows are groups of samples; the colour of a cell, and its "
        "number where there is room, say which subnet."
    )


def describe(schedule: GyroSchedule, batch: int, span: Span) -> tuple[str, str]:
    """A timeline's heading and what is to be seen in it."""
    groups, together = len(span.ids), min(schedule.coscheduled, schedule.subnet_count)
    kind = "Gyro" if schedule.tile_rows is None else "Block-wise gyro"
    heading = f"{kind}, {count(groups, 'group')} of {count(min(span.group_rows, batch), 'sample')}"
    consecutive = schedule.order == "consecutive"
    theirs = "of a set" if consecutive else "of its step"
    if groups < together:
        text = f"A batch has room for {groups} of the {together} subnets {theirs}"
        if consecutive:
            text += f": they take turns over {-(-together // groups)} successive batches"
    else:
        subnets = f"all {together} subnets" if together > 1 else "the one subnet"
        text = f"A batch has room for {subnets} {theirs}: "
        text += "each trains one slab of consecutive samples"
        if consecutive and together > 1:
            text += ", in every step, and from step to step they change places"
    used, picked = schedule.used(batch), schedule.subnet_count
    verb = "trains" if consecutive else "can train"
    text += f". The run {verb} {used:,} of its {count(picked, 'subnet')}"
    text += "." if used == picked else ": too few steps, or groups, for all of them."
    return heading, text


def subnet_colours(schedule: GyroSchedule, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Red, green and blue of subnets: a hue for each set, a shade for each of its subnets."""
    sets, slots = np.divmod(ids, schedule.coscheduled)
    shares = slots / max(min(schedule.coscheduled, schedule.subnet_count) - 1, 1)
    light, dark = (np.array([to_rgb(hue[end]) for hue in HUES])[sets % len(HUES)] for end in (0, 1))
    colours: npt.NDArray[np.float64] = light + shares[..., None] * (dark - light)
    return colours


def _draw_timeline(
    page: Page, schedule: GyroSchedule, batch: int, spans: list[Span], y: float
) -> float:
    first = spans[0].first_step
    stop = spans[-1].first_step + spans[-1].ids.shape[1]
    x, step_width = MARGIN + LABEL, WIDTH / (stop - first)
    named = schedule.order == "consecutive"
    top = y + (30 if named else 0)
    axes = page.panel(x, top, WIDTH, HEIGHT)
    axes.set_xlim(first, stop)
    axes.set_ylim(batch, 0)
    for span in spans:
        groups, steps = span.ids.shape
        edges = np.minimum(np.arange(groups + 1) * span.group_rows, batch)
        cell = min(step_width, HEIGHT * span.group_rows / batch)
        axes.pcolormesh(
            np.arange(span.first_step, span.first_step + steps + 1), edges,
            subnet_colours(schedule, span.ids), edgecolors="white",
            linewidth=0.6 if cell >= 16 else 0.0,
        )  # fmt: skip
        _write_ids(page, axes, schedule, span, edges, step_width)
        if named:
            left, width = x + (span.first_step - first) * step_width, steps * step_width
            _name_set(page, schedule, span, left, y, width)
            if span.first_step > first:
                axes.axvline(span.first_step, color="white", linewidth=2.4)
    _label_axes(axes, batch, spans, first, stop)
    page.bottom = top + HEIGHT + 70  # the labels of the axis
    return page.bottom


def _write_ids(
    page: Page,
    axes: Axes,
    schedule: GyroSchedule,
    span: Span,
    edges: npt.NDArray[np.int64],
    step_width: float,
) -> None:
    """Writes each subnet's number into its cell, where all of them have room."""
    widest = page.text_width(str(schedule.subnet_count - 1), SMALL)
    if step_width < widest + 6 or HEIGHT * span.group_rows / edges[-1] < 24:
        return
    colours = subnet_colours(schedule, span.ids)
    for (group, column), subnet in np.ndenumerate(span.ids):
        luminance = colours[group, column] @ (0.299, 0.587, 0.114)
        axes.text(
            span.first_step + column + 0.5, (edges[group] + edges[group + 1]) / 2, str(subnet),
            fontsize=SMALL, ha="center", va="center", color=INK if luminance > 0.6 else "white",
        )  # fmt: skip


def _name_set(
    page: Page, schedule: GyroSchedule, span: Span, x: float, y: float, width: float
) -> None:
    """Writes the longest name of a set that fits above it."""
    low = span.number * schedule.coscheduled
    high = min(low + schedule.coscheduled, schedule.subnet_count) - 1
    for name in (f"set {span.number}: subnets {low} to {high}", f"set {span.number}"):
        if page.text_width(name, SMALL) + 8 <= width:
            page.text(x + width / 2, y, name, SMALL, QUIET, ha="center")
            return


def _label_axes(axes: Axes, batch: int, spans: list[Span], first: int, stop: int) -> None:
    every = next(n for n in (1, 2, 4, 8, 16, 32, 64) if (stop - first) / n <= 24)
    steps = np.arange(first, stop, every)
    axes.set_xticks(steps + 0.5, [str(step) for step in steps])
    rows = np.arange(0, batch + 1, max(spans[0].group_rows, -(-batch // 8)))
    axes.set_yticks(rows, [str(row) for row in rows])
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=QUIET, pad=4)
    axes.set_xlabel("step", size=SMALL, color=QUIET, labelpad=4)
    axes.set_ylabel("samples of the batch", size=SMALL, color=QUIET, labelpad=6)
