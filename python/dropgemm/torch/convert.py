"""convert: nn.Linear and nn.Dropout of a model become dropgemm's, in place; revert undoes it."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from dropgemm.arrays import to_integer, to_rate
from dropgemm.masks import INT_END, SEED_END
from dropgemm.schedule import ScaleKind
from dropgemm.tile_mask import ceil_div
from dropgemm.torch.chain import Link, find_links, shared_modules
from dropgemm.torch.clock import Clock
from dropgemm.torch.dropout import DROPOUTS, _SiteDropout
from dropgemm.torch.linear import Linear
from dropgemm.torch.relu import ReLU
from dropgemm.torch.schedule import Schedule
from dropgemm.torch.site import METHODS, Method, Site

_SIDES = ("both", "input", "output")
_RATE_SLACK = 0.02  # how far an exact draw's keep rate may be off 1 - p without a word


def convert(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    method: Method,
    total_steps: int,
    p: float | None = None,
    sides: Literal["both", "input", "output"] = "both",
    advance: Literal["optimizer", "manual"] = "optimizer",
    seed: int = 0,
    subnets: int = 1024,
    coscheduled: int = 8,
    tile_rows: int = 128,
    tile_cols: int = 32,
    scale: ScaleKind | None = None,
) -> Schedule:
    """Makes the dropouts of a model's nn.Sequential chains skip work; returns the schedule.

    Parameters, hooks, state_dict keys, the optimizer and isinstance checks stay as they are:
    layers change their class in place. method: "block" (block-wise gyro dropout), "gyro" or
    "bernoulli". total_steps: the optimizer steps of the whole run. p: the dropout rate in place
    of each nn.Dropout's own. sides: which Linear layers skip, the one that reads a dropped value
    ("input"), the one that makes it ("output") or both. With an optimizer, each of its steps
    advances the schedule; advance="manual" leaves schedule.step() to the caller. subnets,
    coscheduled: Gyro Dropout's Sigma and tau (Lee et al., 2022, 4.1). scale: "rate", "exact" or
    None for the draw's default.

    Raises ValueError for a model with nothing to convert, a converted one, a module that is used
    twice, no way to advance, and settings out of range.
    """
    _check_choice("method", method, METHODS)
    _check_choice("sides", sides, _SIDES)
    _check_choice("advance", advance, ("optimizer", "manual"))
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__qualname__}")
    if advance == "optimizer":
        if optimizer is None:
            raise ValueError(
                'optimizer: expected one whose steps advance the schedule, or advance="manual" '
                "and a call of schedule.step() after each optimizer step, got neither"
            )
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__qualname__}"
            )
    settings = {
        "total_steps": to_integer("total_steps", total_steps, 1, INT_END),
        "seed": to_integer("seed", seed, 0, SEED_END),
        "subnets": to_integer("subnets", subnets, 1, INT_END),
        "coscheduled": to_integer("coscheduled", coscheduled, 1, INT_END),
        "tile_rows": to_integer("tile_rows", tile_rows, 1, INT_END),
        "tile_cols": to_integer("tile_cols", tile_cols, 1, INT_END),
    }
    rate = None if p is None else to_rate("p", p)
    if any(isinstance(module, (_SiteDropout, Linear)) for module in model.modules()):
        raise ValueError("model: expected one that is not converted yet; call revert(model) first")

    links, others = find_links(model)
    links, rejected = _choose(links, method, sides)
    others += rejected
    if not links:
        why = "; ".join(f"'{name}': {reason}" for name, reason in others)
        raise ValueError(
            "model: expected an nn.Dropout in an nn.Sequential"
            + (" next to an nn.Linear" if method == "block" else "")
            + f", found nothing to convert{': ' + why if why else ''}"
        )
    _refuse_shared(model, links)

    # Every site is made before the first module changes: an error leaves the model as it was.
    clock = Clock()
    sites = [
        Site(
            clock, number, _features(link), link.dropout.p if rate is None else rate, method,
            scale=scale, folded=link.direct, **settings,
        )
        for number, link in enumerate(links)
    ]  # fmt: skip
    report = [
        f"{method}: {len(sites)} of {len(sites) + len(others)} dropouts, {total_steps} steps, "
        + ("" if method == "bernoulli" else f"{subnets} subnets, {coscheduled} at a time, ")
        + f"sides {sides}, seed {seed}"
    ]
    for site, link in zip(sites, links, strict=True):
        _apply(site, link)
        report += _describe(site, link)
    report += [f"not converted: '{name}': {reason}" for name, reason in others]
    schedule = Schedule(clock, sites, {"method": method, "sides": sides, **settings}, report)
    if optimizer is not None and advance == "optimizer":
        optimizer.register_step_post_hook(lambda *_: schedule.step())
    return schedule


def revert(model: nn.Module) -> None:
    """Undoes convert: nn.Linear and nn.Dropout(p) again, the same modules and parameters.

    Raises ValueError for a model that is not converted.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__qualname__}")
    converted = [m for m in model.modules() if isinstance(m, (_SiteDropout, Linear, ReLU))]
    if not converted:
        raise ValueError("model: expected a converted one, got one without dropgemm's modules")
    for module in converted:
        if isinstance(module, Linear):
            module.__dict__.pop("in_site", None)
            module.__dict__.pop("out_site", None)
            module.__class__ = nn.Linear  # type: ignore[assignment]
        elif isinstance(module, ReLU):
            module.__dict__.pop("site", None)
            module.__class__ = nn.ReLU  # type: ignore[assignment]
        else:
            rate = module.__dict__.get("p", module.p)
            inplace = module.inplace
            module._modules.pop("clock", None)
            module.__dict__.pop("site", None)
            module.__class__ = nn.Dropout  # type: ignore[assignment]
            module.p, module.inplace = rate, inplace  # type: ignore[misc]


def _check_choice(name: str, value: object, legal: tuple[str, ...]) -> None:
    if value not in legal:
        choices = ", ".join(repr(choice) for choice in legal)
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")


def _choose(
    links: list[Link], method: Method, sides: str
) -> tuple[list[Link], list[tuple[str, str]]]:
    """Drops the neighbours that sides rules out, and the links that nothing is left of."""
    chosen, rejected = [], []
    for link in links:
        if sides == "input" or method == "bernoulli":
            link.producer = None
        if sides == "output":
            link.consumer, link.direct = None, False
        if method != "block" or link.producer is None or not link.direct:
            link.relu = None
        if method == "block" and link.producer is None and link.consumer is None:
            reason = link.reason or "no nn.Linear beside it can skip what it drops"
            if sides != "both":
                reason += f' (sides="{sides}")'
            rejected.append((link.name, reason))
        else:
            chosen.append(link)
    return chosen, rejected


def _refuse_shared(model: nn.Module, links: list[Link]) -> None:
    shared = shared_modules(model)
    for link in links:
        neighbours = [pair[1] for pair in (link.producer, link.consumer) if pair is not None]
        for module in (link.dropout, *neighbours):
            names = shared.get(id(module))
            if names:
                listed = ", ".join(f"'{name}'" for name in names)
                raise ValueError(
                    f"model: expected a module of its own at each of {listed}, got one "
                    f"{type(module).__name__} used {len(names)} times; a mask belongs to one place"
                )


def _features(link: Link) -> int | None:
    if link.producer is not None:
        return link.producer[1].out_features
    return link.consumer[1].in_features if link.consumer is not None else None


def _apply(site: Site, link: Link) -> None:
    dropout: Any = link.dropout
    dropout.__class__ = DROPOUTS[site.method]
    dropout.attach(site)
    for neighbour, attribute in ((link.producer, "out_site"), (link.consumer, "in_site")):
        if neighbour is not None:
            layer: Any = neighbour[1]
            layer.__class__ = Linear
            setattr(layer, attribute, site)
    if link.relu is not None:
        relu: Any = link.relu[1]
        relu.__class__ = ReLU
        relu.site = site
        site.folds_relu = True


def _describe(site: Site, link: Link) -> list[str]:
    parts = [f"site {site.id}: '{link.name}' Dropout(p={site.p})"]
    if site.features is not None:
        parts.append(f"{site.features} features")
    if site.blocks and site.features:
        tiles = ceil_div(site.features, site.tile_cols)
        parts.append(f"keeps {round(site.keep_rate * tiles)} of {tiles} tiles")
    if link.producer is not None:
        parts.append(f"output side '{link.producer[0]}'")
    if link.consumer is not None:
        parts.append(f"input side '{link.consumer[0]}'")
    if link.relu is not None:
        parts.append(f"ReLU '{link.relu[0]}' in both products")
    parts.append("mask and scale in that product" if site.folded else "its own pass stays")
    lines = [", ".join(parts) + (f" ({link.reason})" if link.reason else "")]
    if abs(site.keep_rate - (1.0 - site.p)) > _RATE_SLACK:
        lines.append(
            f"warning: site {site.id} keeps {site.keep_rate:.3f} of its features, where p="
            f"{site.p} asks for {1.0 - site.p:.3f}" + _finer_tiles(site)
        )
    return lines


def _finer_tiles(site: Site) -> str:
    """The widest tile below the site's that comes near the rate, as advice."""
    width = site.tile_cols // 2
    while width >= 1 and site.features:
        tiles = ceil_div(site.features, width)
        kept = max(int((1.0 - site.p) * tiles + 0.5), 1)
        if abs(kept / tiles - (1.0 - site.p)) <= _RATE_SLACK:
            return f"; tile_cols={width} would keep {kept / tiles:.3f}"
        width //= 2
    return ""
