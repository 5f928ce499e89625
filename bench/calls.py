"""What a call costs where there is next to nothing to compute: microseconds, beside PyTorch's own.

    OMP_PROC_BIND=true python bench/calls.py

Eager calls on one thread, of 8 rows of 64 features: products, layers, and what draws masks. Prints
medians, and what calls cost more than PyTorch's turn by turn; writes bench/results/<name>.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import record
import torch
from arguments import count, seconds
from timing import Contender, Summary, interleaved
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

import dropgemm as dg
from dropgemm.torch import Clock, Linear, Site, convert

THREE = "three `nn.Linear`, ReLU and dropout between them"
RUN = {"total_steps": 1 << 20, "subnets": 64, "coscheduled": 8, "seed": 0}


class Call(NamedTuple):
    """Something to call: alone, with gradients that are wanted, and with its backward."""

    name: str
    beside: str  # PyTorch's call, or "" where it has none
    parts: Mapping[str, Callable[[], object]]


def differentiable(
    name: str, beside: str, forward: Callable[..., Tensor], wanted: Sequence[Tensor]
) -> Call:
    """A call that is given all `wanted`, whose gradients the backward computes."""
    plain = [tensor.detach() for tensor in wanted]
    gradient = torch.ones_like(forward(*plain))
    return Call(
        name,
        beside,
        {
            "no gradients": lambda: forward(*plain),
            "forward": lambda: forward(*wanted),
            "with backward": lambda: torch.autograd.grad(forward(*wanted), wanted, gradient),
        },
    )


def products(rows: int, width: int) -> Iterator[Call]:
    """dropgemm.matmul."""
    shapes = ((rows, width), (width, width), (width,))
    wanted = [torch.randn(shape, requires_grad=True) for shape in shapes]
    masks = [
        dg.bernoulli_mask(
            rows, width, 0.5, seed=0, site=site, tile=(128, 32), like=wanted[0].detach()
        )
        for site in range(2)
    ]
    yield differentiable("`F.linear`", "", lambda x, w, b: F.linear(x, w, b), wanted)
    for name, a_mask, out_mask in (
        ("`dropgemm.matmul`", None, None),
        ("`dropgemm.matmul`, two masks", *masks),
    ):

        def forward(
            x: Tensor, w: Tensor, b: Tensor, mi: Any = a_mask, mo: Any = out_mask
        ) -> Tensor:
            y: Tensor = dg.matmul(x, w, trans_b=True, bias=b, a_mask=mi, out_mask=mo)
            return y

        yield differentiable(name, "`F.linear`", forward, wanted)


def layers(rows: int, width: int) -> Iterator[Call]:
    """A Linear between two dropouts; three with ReLU and dropout between them."""
    x = torch.randn(rows, width, requires_grad=True)

    def of_model(name: str, beside: str, model: nn.Module) -> Call:
        parameters = list(model.parameters())
        call = differentiable(name, beside, lambda x, *_: model(x), [x, *parameters])
        parts = {part: run for part, run in call.parts.items() if part != "no gradients"}
        return call._replace(parts=parts)

    def three() -> nn.Module:
        parts = ((nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.5)) for _ in range(2))
        return nn.Sequential(*(m for part in parts for m in part), nn.Linear(width, width))

    methods = {"row": "row patterns", "block": "blocks"}
    yield of_model("`nn.Linear`", "", nn.Linear(width, width))
    for method, what in methods.items():
        clock = Clock()
        sites = [Site(clock, number, width, 0.5, method, **RUN) for number in range(2)]
        layer = Linear(width, width, in_site=sites[0], out_site=sites[1])
        yield of_model(f"`Linear` between two dropouts, {what}", "`nn.Linear`", layer)
    yield of_model(THREE, "", three())
    for method, what in methods.items():
        model = three()
        convert(model, method=method, advance="manual", **RUN)
        yield of_model(
            f"the same, converted to {what}",
            THREE,
            model,
        )


def masks(rows: int, width: int) -> Iterator[Call]:
    """What draws masks: at a step that is an int, and by the operator at one that is a tensor."""
    like, step = torch.empty(0), torch.tensor(3)
    schedule = dg.GyroSchedule(width, 0.5, **RUN, site=0, tile_rows=128, tile_cols=32)
    schedule.warn_if_unused(1 << 30)
    patterns = dg.search_distribution(0.5)

    def drawn(name: str, draw: Callable[[Any], object]) -> Call:
        return Call(
            name, "", {"drawn at once": lambda: draw(3), "by the operator": lambda: draw(step)}
        )

    yield drawn("`GyroSchedule.mask`, blocks", lambda at: schedule.mask(at, rows, like=like))
    yield drawn(
        "`bernoulli_mask`",
        lambda at: dg.bernoulli_mask(rows, width, 0.5, seed=0, site=0, step=at, like=like),
    )
    yield drawn(
        "`PatternDistribution.mask`, rows",
        lambda at: patterns.mask(0, 0, at, rows, width, like=like),
    )


def measure(rows: int, width: int, budget: float) -> list[dict[str, Any]]:
    """A row of results for each call and part."""
    calls = [*products(rows, width), *layers(rows, width), *masks(rows, width)]
    times = interleaved(
        {
            f"{call.name}: {part}": Contender("", {}, {"call": [(1.0, run)]}, nullcontext)
            for call in calls
            for part, run in call.parts.items()
        },
        budget,
    )
    found = []
    for call in calls:
        for part in call.parts:
            name = f"{call.name}: {part}"
            time = times.of(name, "call")
            row = {"call": call.name, "part": part, "us": 1e6 * time.median, "spread": time.spread}
            if call.beside:
                theirs = times.seconds[f"{call.beside}: {part}"]["call"]
                ours = times.seconds[name]["call"]
                more = Summary.of([a - b for a, b in zip(ours, theirs, strict=True)])
                row |= {"beside": call.beside, "more_us": 1e6 * more.median}
            found.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=count, default=8)
    parser.add_argument("--width", type=count, default=64)
    parser.add_argument("--seconds", type=seconds, default=20.0, help="time to spend, about")
    parser.add_argument("--name", default="calls", help="of the result file")
    parser.add_argument("--overwrite", action="store_true", help="an existing result file")
    args = parser.parse_args(arguments)
    try:
        record.check_free(args.name, overwrite=args.overwrite)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    rows = measure(args.rows, args.width, args.seconds)
    for row in rows:
        more = f"   {row['more_us']:+7.1f} us beside {row['beside']}" if "beside" in row else ""
        what = f"{row['call']}, {row['part']}"
        print(f"{what:58s} {row['us']:7.1f} us ({row['spread']:4.0%}){more}")
    results = {"rows_of_inputs": args.rows, "width": args.width, "rows": rows}
    print(record.save(args.name, results, overwrite=args.overwrite))


if __name__ == "__main__":
    main()
