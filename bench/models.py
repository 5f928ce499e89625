"""Parts of models: PyTorch in two ways and dropgemm, in turn in one process.

    OMP_PROC_BIND=true python bench/models.py --set feedforward
    OMP_PROC_BIND=true python bench/models.py --set ensemble --name local_ensemble

feedforward: forward and backward of the feed-forward half of an nn.TransformerEncoderLayer, its two
dropouts among it. ensemble: predictions of an MLP under a number of masks. Prints medians, spreads
and ratios turn by turn, and writes bench/results/<name>.json.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise, product
from typing import Any

import record
import torch
from arguments import THREADS, count, rate, seconds, threads
from products import precision
from timing import Contender, interleaved
from torch import nn

from dropgemm.torch import convert, ensemble

Run = Callable[[], object]
Models = tuple[Run, dict[str, Run]]  # what PyTorch runs, and dropgemm for each method
MLP = (784, 2048, 2048, 10)
MODEL, FEED_FORWARD, SAMPLES = 768, 3072, 16  # of a transformer; sequences of a batch
ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


def converted(model: nn.Module, method: str) -> nn.Module:
    """The model, with its dropouts and the layers beside them changed."""
    convert(model, method=method, total_steps=10_000, advance="manual")
    return model


# ---- a transformer's feed-forward ---------------------------------------------------------------


def feed_forward(case: dict[str, Any], methods: Sequence[str]) -> Models:
    """Forward and backward of the linear layers of an encoder layer."""
    generator = torch.Generator().manual_seed(0)
    shape = SAMPLES, case["tokens"] // SAMPLES, MODEL
    x = torch.randn(shape, generator=generator).requires_grad_()
    gradient = torch.randn(shape, generator=generator)

    def layer() -> nn.TransformerEncoderLayer:
        activation = ACTIVATIONS[case["activation"]]()
        return nn.TransformerEncoderLayer(
            MODEL, 12, FEED_FORWARD, case["p"], activation, batch_first=True
        )

    def run(layer: Any) -> Run:
        def forward_and_backward() -> None:
            layer._ff_block(x).backward(gradient)
            for tensor in (x, *layer.parameters()):
                tensor.grad = None

        return forward_and_backward

    return run(layer()), {method: run(converted(layer(), method)) for method in methods}


# ---- an ensemble --------------------------------------------------------------------------------


def members(case: dict[str, Any], methods: Sequence[str]) -> Models:
    """Outputs of an MLP for each of some subnets; PyTorch's have masks that were drawn before."""
    subnets, p = case["subnets"], case["p"]
    x = torch.randn(case["batch"], MLP[0], generator=torch.Generator().manual_seed(0))

    def network() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(MLP):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(p)]
        return nn.Sequential(*layers[:-2])

    plain = network()
    masks = (torch.rand(subnets, len(MLP) - 2, MLP[1]) >= p) / (1 - p)

    @torch.no_grad()
    def separately() -> torch.Tensor:
        results = []
        for mask in masks:
            y, kept = x, iter(mask)
            for module in plain:
                y = y * next(kept) if isinstance(module, nn.Dropout) else module(y)
            results.append(y)
        return torch.stack(results)

    def together(method: str) -> Run:
        run = ensemble(converted(network(), method), subnets)
        return lambda: run(x)

    return separately, {method: together(method) for method in methods}


# ---- what is measured ---------------------------------------------------------------------------

SETS: dict[str, tuple[Callable[[dict[str, Any], Sequence[str]], Models], list[str]]] = {
    "feedforward": (feed_forward, ["block", "row"]),
    "ensemble": (members, ["block", "gyro"]),
}


def cases(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The axes of a set, in all combinations."""
    if args.set == "feedforward":
        for activation, p in product(ACTIVATIONS, args.p or [0.1, 0.5]):
            yield {"tokens": args.tokens, "activation": activation, "p": p}
    else:
        for batch, p in product(args.batch, args.p or [0.5]):
            yield {"batch": batch, "subnets": args.subnets, "p": p}


def contenders(models: Models) -> dict[str, Contender]:
    """PyTorch and each method, both also under "medium"."""
    stock, own = models
    found = {
        "stock": Contender("stock", {}, {"all": [(1.0, stock)]}, nullcontext),
        "medium": Contender("medium", {}, {"all": [(1.0, stock)]}, lambda: precision("medium")),
    }
    for method, run in own.items():
        parts, dropped = {"all": [(1.0, run)]}, {"method": method}
        found[method] = Contender("dropgemm", dropped, parts, nullcontext)
        found[f"{method}, medium"] = Contender(
            "dropgemm medium", dropped, parts, lambda: precision("medium")
        )
    return found


def measure(case: dict[str, Any], models: Models, budget: float) -> list[dict[str, Any]]:
    """Time a case, print it: a row for every contender."""
    who = contenders(models)
    times = interleaved(who, budget)
    print("\n" + ", ".join(f"{name} {value}" for name, value in case.items()))
    rows = []
    for name, contender in who.items():
        time = times.of(name, "all")
        over = {kind: times.speedup(name, kind, "all") for kind in ("stock", "medium")}
        ratios = "".join(f"   {over[kind].median:5.2f} x {kind}" for kind in over)
        print(f"  {name:15s} {1e3 * time.median:8.1f} ms ({time.spread:4.0%}){ratios}", flush=True)
        figures = {
            "ms": round(1e3 * time.median, 2),
            "spread": round(time.spread, 3),
            "turns": len(times.seconds[name]["all"]),
            "x": {kind: round(ratio.median, 3) for kind, ratio in over.items()},
            "x_spread": {kind: round(ratio.spread, 3) for kind, ratio in over.items()},
        }
        rows.append({**case, "contender": contender.kind, **contender.dropped, **figures})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--set", required=True, choices=SETS)
    parser.add_argument("--p", nargs="+", type=rate, help="dropout rates (default: the set's)")
    parser.add_argument("--tokens", type=count, default=2048, help="of a feed-forward's batch")
    parser.add_argument(
        "--batch", nargs="+", type=count, default=[64, 128, 256, 1024], help="samples"
    )
    parser.add_argument("--subnets", type=count, default=16, help="of an ensemble")
    parser.add_argument("--methods", nargs="+", choices=["block", "row", "gyro"])
    parser.add_argument("--threads", type=threads, default=THREADS)
    parser.add_argument("--seconds", type=seconds, default=60.0, help="time to spend, about")
    parser.add_argument("--name", help="of the result file (default: the set's)")
    parser.add_argument("--overwrite", action="store_true", help="an existing result file")
    args = parser.parse_args(arguments)
    name = args.name or args.set
    try:
        record.check_free(name, overwrite=args.overwrite)
        if args.tokens % SAMPLES:
            raise ValueError(f"--tokens: expected a multiple of {SAMPLES}, got {args.tokens}")
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", "a run of .* steps at batch")  # none is trained here
    make, methods = SETS[args.set]
    rows: list[dict[str, Any]] = []
    every = list(cases(args))
    for case in every:
        torch.manual_seed(0)
        rows += measure(case, make(case, args.methods or methods), args.seconds / len(every))
    print(record.save(name, {"set": args.set, "rows": rows}, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
