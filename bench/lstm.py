"""Training steps of an LSTM language model: PyTorch and dropgemm in float32 and under "medium", in
turn.

    OMP_PROC_BIND=true python bench/lstm.py

The models are those of python/examples/lstm_language_model.py, at the sizes of Approximate Random
Dropout (Song et al., 2018, IV.C). A step is forward, loss, backward and plain SGD. Prints medians,
spreads and ratios turn by turn, and writes bench/results/<name>.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import record
import torch
from arguments import THREADS, count, rate, seconds, threads
from products import precision
from timing import Contender, interleaved
from torch import nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

from dropgemm.torch import SGD

sys.path.append(str(Path(__file__).parent.parent / "python" / "examples"))
from lstm_language_model import Conventional, Pruned

# Sides that are dropped of the products with a layer's inputs and with its hidden state.
SIDES = {
    where + method: sides
    for method in ("row", "block")
    for where, sides in (("", (1, 0)), ("own:", (1, 1)), ("units:", (2, 2)))
}
SIZES = {"layers": 2, "hidden": 1500, "batch": 20, "length": 35, "vocabulary": 8800}


def step_of(model: nn.Module, args: argparse.Namespace) -> Callable[[], object]:
    """One training step on words that are always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = args.batch, args.length
    words = torch.randint(args.vocabulary, shape, generator=generator)
    following = torch.randint(args.vocabulary, shape, generator=generator).flatten()
    zeros = torch.zeros(args.layers, args.batch, args.hidden)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if isinstance(model, Pruned):
        optimizer = SGD(model.parameters(), 0.1)

    def step() -> None:
        optimizer.zero_grad()
        output, _ = model(words, (zeros, zeros))
        F.cross_entropy(output.flatten(0, 1), following).backward()
        optimizer.step()
        if isinstance(model, Pruned):
            model.lstm.clock.advance()

    return step


def work(method: str, args: argparse.Namespace) -> float:
    """The share of the dense multiply-adds that is left, in the mean."""
    keep, gates = 1.0 - args.p, 4 * args.layers * args.hidden
    left = gates * sum(keep**sides for sides in SIDES[method]) + keep * args.vocabulary
    return float(left / (2 * gates + args.vocabulary))


def contenders(args: argparse.Namespace) -> dict[str, Contender]:
    """By name: PyTorch and each method, both also under "medium"."""
    sizes = args.vocabulary, args.hidden, args.layers, args.p
    stock = {"step": [(1.0, step_of(Conventional(*sizes), args))]}
    found = {
        "stock": Contender("stock", {}, stock, nullcontext),
        "medium": Contender("medium", {}, stock, lambda: precision("medium")),
    }
    rows = args.batch * args.length  # block-wise dropout: one group, the whole batch
    for method in args.methods:
        model = Pruned(*sizes, method, total_steps=10_000, tile_rows=rows)
        run, dropped = {"step": [(1.0, step_of(model, args))]}, {"method": method}
        found[method] = Contender("dropgemm", dropped, run, nullcontext)
        found[f"{method}, medium"] = Contender(
            "dropgemm medium", dropped, run, lambda: precision("medium")
        )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=count, default=default)
    parser.add_argument("--p", type=rate, default=0.5)
    methods = ["row", "own:row", "units:row"]
    parser.add_argument("--methods", nargs="+", default=methods, choices=SIDES)
    parser.add_argument("--threads", type=threads, default=THREADS)
    parser.add_argument("--seconds", type=seconds, default=80.0, help="time to spend, about")
    parser.add_argument("--name", default="lstm", help="of the result file")
    parser.add_argument("--overwrite", action="store_true", help="an existing result file")
    args = parser.parse_args(arguments)
    try:
        record.check_free(args.name, overwrite=args.overwrite)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    torch.set_num_threads(args.threads)
    shape = {name: getattr(args, name) for name in (*SIZES, "p")}
    rows: list[dict[str, Any]] = []
    who = contenders(args)
    times = interleaved(who, args.seconds)
    for name, contender in who.items():
        time = times.of(name, "step")
        over = {kind: times.speedup(name, kind, "step") for kind in ("stock", "medium")}
        print(
            f"{name:18s} {1e3 * time.median:8.1f} ms ({time.spread:4.0%})"
            + "".join(f"   {over[kind].median:5.2f} x {kind}" for kind in over)
        )
        figures = {
            "ms": round(1e3 * time.median, 1),
            "spread": round(time.spread, 3),
            "turns": len(times.seconds[name]["step"]),
            "x": {kind: round(ratio.median, 3) for kind, ratio in over.items()},
            "x_spread": {kind: round(ratio.spread, 3) for kind, ratio in over.items()},
        }
        if contender.dropped:
            figures["work"] = round(work(contender.dropped["method"], args), 4)
        rows.append({**shape, "contender": contender.kind, **contender.dropped, **figures})
    print(record.save(args.name, {"rows": rows}, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
