"""convert: nn.Linear, nn.LSTM and nn.Dropout of a model become dropgemm's (revert.py undoes it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from torch import distributed, nn
from torch.optim import Optimizer

from dropgemm.arrays import to_integer, to_rate
from dropgemm.framework import ceil_div
from dropgemm.masks import INT_END
from dropgemm.methods import METHODS, Method
from dropgemm.ranks import RankPolicy
from dropgemm.schedule import ScaleKind
from dropgemm.search import SearchMethod, search_distribution
from dropgemm.torch.chain import Link, find_links, shared_modules
from dropgemm.torch.clock import Clock
from dropgemm.torch.draws import Settings
from dropgemm.torch.dropout import DROPOUTS, _SiteDropout
from dropgemm.torch.follow import follow
from dropgemm.torch.linear import Linear, TileDropLinear
from dropgemm.torch.link import Reader
from dropgemm.torch.lstm import LSTM
from dropgemm.torch.relu import ReLU
from dropgemm.torch.report import remarks, site_table
from dropgemm.torch.revert import refuse_sharded
from dropgemm.torch.schedule import Schedule
from dropgemm.torch.site import Site

Sides = Literal["both", "input", "output", "paper"]
Methods = Method | Mapping[str, Method | None]


def convert(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    method: Methods,
    total_steps: int,
    p: float | None = None,
    sides: Sides = "both",
    prune_weight_grad: bool = True,
    advance: Literal["optimizer", "manual"] = "optimizer",
    seed: int = 0,
    subnets: int = 1024,
    coscheduled: int = 8,
    tile_rows: int = 128,
    tile_cols: int = 32,
    order: Literal["consecutive", "random"] = "consecutive",
    draw: Literal["exact", "bernoulli"] | None = None,
    max_period: int | None = None,
    search: SearchMethod = "narrow",
    weight_tile: tuple[int, int] = (32, 32),
    skew: int | Literal["linear"] = 1,
    scale: ScaleKind | None = None,
    batch_dim: int = 0,
    rank_policy: RankPolicy = "disjoint",
    process_group: distributed.ProcessGroup | None = None,
) -> Schedule:
    """Makes the dropouts of a model skip work; returns the schedule.

    Parameters, hooks, state_dict keys, the optimizer and isinstance checks stay as they are:
    layers change their class in place.

    method: "block" (block-wise gyro dropout), "gyro", "row" (row patterns), "tile" (tile patterns)
    or "bernoulli"; or one for each dropout by its name in the model, {"classifier.*": "row",
    "*": "block"}: the first pattern (of fnmatch) that matches counts, None leaves a dropout as it
    is; sides are not for those of "tile". total_steps: the optimizer steps of the whole run. p: the
    dropout rate in place of each nn.Dropout's own.

    sides: which Linear layers skip, the one that reads a dropped value ("input"), the one that
    makes it ("output") or both; "paper" is Gyro Dropout's 4.3: outputs of a first layer, inputs
    of the others. prune_weight_grad=False multiplies all of the weight gradients, as the papers
    did. Both change the work and no result. With an optimizer, each of its steps advances the
    schedule; advance="manual" leaves schedule.step() to the caller. process_group: the ranks of
    data-parallel training, where those are not all; each forward asks for rank and world size.
    The others are the fields of Settings.

    Raises ValueError for a model with nothing to convert, a converted or sharded one, a module that
    is used twice, no way to advance, and settings out of range.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__qualname__}")
    _check_methods(method)
    _check_choice("sides", sides, get_args(Sides))
    if method == "tile" and sides != "both":
        raise ValueError(
            f"sides: expected 'both' for tile patterns, which drop weights and have no sides, "
            f"got {sides!r}"
        )
    _check_choice("advance", advance, ("optimizer", "manual"))
    if advance == "optimizer":
        _check_optimizer(optimizer, model)
    settings = Settings(
        to_integer("total_steps", total_steps, 1, INT_END), seed, scale, subnets, coscheduled,
        tile_rows, tile_cols, order, draw, max_period, search, weight_tile, skew, batch_dim,
        rank_policy,
    )  # fmt: skip
    rate = None if p is None else to_rate("p", p)
    refuse_sharded(model)
    if any(isinstance(module, (_SiteDropout, Linear, LSTM)) for module in model.modules()):
        raise ValueError("model: expected one that is not converted yet; call revert(model) first")

    found, others = find_links(model)
    chosen, rejected = choose(found, method, sides)
    others += rejected
    if not chosen:
        why = "; ".join(f"'{name}': {reason}" for name, reason in others)
        raise ValueError(
            "model: expected an nn.Dropout next to an nn.Linear, found nothing to convert"
            + (f": {why}" if why else "")
        )
    _refuse_shared(model, [link for link, _ in chosen])

    # Every site is made before the first module changes: an error leaves the model as it was.
    clock = Clock(process_group)
    for parameter in model.parameters():
        clock.to(parameter.device)
        break
    sites = [
        make_site(clock, number, link, kind, link.rate if rate is None else rate, settings)
        for number, (link, kind) in enumerate(chosen)
    ]
    links = [link for link, _ in chosen]
    for site, link in zip(sites, links, strict=True):
        _apply(site, link, prune_weight_grad)
    _apply_to_lstms(sites, links)
    kinds = list(dict.fromkeys(site.method for site in sites))
    report = [
        f"{', '.join(kinds)}: {len(sites)} of {len(sites) + len(others)} dropouts, {total_steps} "
        + "steps, "
        + (f"{subnets} subnets, {coscheduled} at a time, " if {"block", "gyro"} & {*kinds} else "")
        + f"sides {sides}, seed {seed}",
        *site_table(sites, links),
    ]
    for site, link in zip(sites, links, strict=True):
        report += remarks(site, link)
    report += [f"not converted: '{name}': {reason}" for name, reason in others]
    named = method if isinstance(method, str) else dict(method)
    schedule = Schedule(clock, sites, {"method": named, "sides": sides, **settings.state()}, report)
    if optimizer is not None and advance == "optimizer":
        follow(schedule, optimizer, model)
    return schedule


# ---- what is asked for -----------------------------------------------------------------------


def _check_choice(name: str, value: object, legal: tuple[str, ...]) -> None:
    if value not in legal:
        choices = ", ".join(repr(choice) for choice in legal)
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")


def _check_methods(method: object) -> None:
    if not isinstance(method, Mapping):
        _check_choice("method", method, METHODS)
        return
    for pattern, kind in method.items():
        if not isinstance(pattern, str):
            raise TypeError(f"method: expected names of dropouts as keys, got {pattern!r}")
        if kind is not None:
            _check_choice(f"method[{pattern!r}]", kind, METHODS)


def _check_optimizer(optimizer: object, model: nn.Module) -> None:
    if optimizer is None:
        raise ValueError(
            'optimizer: expected one whose steps advance the schedule, or advance="manual" '
            "and a call of schedule.step() after each optimizer step, got neither"
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__qualname__}"
        )
    held = [each for group in optimizer.param_groups for each in group["params"]]
    if not {id(each) for each in held} & {id(each) for each in model.parameters()}:
        raise ValueError(
            "optimizer: expected one that holds parameters of the model, got one of "
            f"{len(held)} others: make it of model.parameters(), or say "
            'advance="manual" and call schedule.step() after each optimizer step'
        )


# ---- what is done about it -------------------------------------------------------------------


def choose(
    links: list[Link], method: Methods, sides: Sides
) -> tuple[list[tuple[Link, Method]], list[tuple[str, str]]]:
    """The links to convert, each with its method and the sides it is left; the others, why not.

    ValueError for a pattern of `method` that decides for no dropout.
    """
    if isinstance(method, Mapping):
        deciding = {_pattern_of(link.name, method) for link in links}
        for pattern in method:
            if pattern not in deciding:
                names = ", ".join(repr(link.name) for link in links)
                raise ValueError(
                    f"method: expected patterns that match a dropout of the model ({names}) before "
                    f"any other does, got {pattern!r}"
                )
    chosen: list[tuple[Link, Method]] = []
    rejected: list[tuple[str, str]] = []
    consumers = {name for link in links for name, _ in link.consumers}
    for link in links:
        kind = _method_of(link.name, method)
        if kind is None:
            rejected.append((link.name, "method names none for it"))
            continue
        if sides == "input" or kind in ("bernoulli", "tile"):
            link.producer = None
        # Only a layer whose own inputs are whole skips outputs.
        if sides == "paper" and link.producer is not None and link.producer[0] in consumers:
            link.producer = None
        if sides == "output" and kind != "tile":
            link.consumer, link.further, link.direct = None, [], False
        # The masks of an LSTM are the same at all steps; those of conventional dropout are not.
        if kind == "bernoulli" and _of_lstm(link):
            link.consumer, link.direct = None, False
        # Of the layers behind, a Linear alone multiplies by the derivative of a ReLU.
        paired = link.producer is not None and link.direct and not _of_lstm(link)
        if kind not in ("block", "row") or not paired:
            link.relu = None
        reason = _obstacle(link, kind, sides)
        if reason:
            rejected.append((link.name, reason))
        else:
            chosen.append((link, kind))
    return chosen, list(dict.fromkeys(rejected))  # an LSTM's links have one name


def _method_of(name: str, method: Methods) -> Method | None:
    if isinstance(method, str):
        return method
    pattern = _pattern_of(name, method)
    return None if pattern is None else method[pattern]


def _pattern_of(name: str, method: Mapping[str, Method | None]) -> str | None:
    """The pattern that decides for a dropout: the first that matches."""
    return next((pattern for pattern in method if fnmatchcase(name, pattern)), None)


def _obstacle(link: Link, kind: Method, sides: Sides) -> str:
    """Why this link cannot be converted, or nothing."""
    if link.layer and link.consumer is None:
        if kind == "bernoulli":
            return "conventional dropout between its layers is that of nn.LSTM"
        return f'it drops between its layers, which are inputs (sides="{sides}")'
    if kind == "tile" and not (link.direct and link.consumer is not None):
        return link.reason or "no nn.Linear alone reads it, whose weight could be dropped instead"
    if kind in ("block", "row") and link.producer is None and link.consumer is None:
        reason = link.reason or "no nn.Linear beside it can skip what it drops"
        if sides != "both":
            return f'{reason} (sides="{sides}")'
        return f"{reason}; drop next to an nn.Linear, or say method='gyro' for single neurons"
    return ""


def make_site(
    clock: Clock, number: int, link: Link, kind: Method, p: float, settings: Settings
) -> Site:
    """The site of a link. ValueError, naming the dropout, where the method does not fit it."""
    outputs = None
    if kind == "tile":
        assert link.consumer is not None
        outputs = _outputs(link.consumer[1])
    features = _features(link)
    try:
        if outputs is not None and features is not None:
            settings = replace(settings, weight_tile=_fitting_tile(outputs, features, p, settings))
        return Site(
            clock, number, features, p, kind, outputs=outputs, folded=link.direct,
            **settings.state(),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"'{link.name}': {error}") from None


def _fitting_tile(outputs: int, inputs: int, p: float, settings: Settings) -> tuple[int, int]:
    """The asked tile, made smaller where a weight has fewer tiles than a pattern needs."""
    if p == 1.0:
        return settings.weight_tile
    periods = search_distribution(p, settings.max_period, settings.search).max_period
    height, width = settings.weight_tile
    if ceil_div(outputs, height) < periods:
        height = max(outputs // periods, 1)
    if ceil_div(inputs, width) < periods:
        width = max(inputs // periods, 1)
    return height, width


def _refuse_shared(model: nn.Module, links: list[Link]) -> None:
    shared = shared_modules(model)
    for link in links:
        readers = [layer for _, layer in link.consumers]
        makers = [link.producer[1]] if link.producer is not None else []
        for module in (link.dropout, *makers, *readers):
            names = shared.get(id(module))
            if names:
                listed = ", ".join(f"'{name}'" for name in names)
                raise ValueError(
                    f"model: expected a module of its own at each of {listed}, got one "
                    f"{type(module).__name__} used {len(names)} times: a mask belongs to one "
                    "place; copy.deepcopy makes another module"
                )


def _features(link: Link) -> int | None:
    if link.producer is not None:
        return link.producer[1].out_features
    if link.consumer is None:
        return None
    layer = link.consumer[1]
    if isinstance(layer, nn.LSTM):
        return layer.hidden_size if link.layer else layer.input_size
    return layer.in_features


def _outputs(layer: Reader) -> int:
    """The rows of the weight that a layer's input meets; of an LSTM those of one gate."""
    return layer.hidden_size if isinstance(layer, nn.LSTM) else layer.out_features


def _of_lstm(link: Link) -> bool:
    return link.consumer is not None and isinstance(link.consumer[1], nn.LSTM)


def _apply_to_lstms(sites: list[Site], links: list[Link]) -> None:
    """Makes an LSTM of each nn.LSTM among the readers, with the sites of its layers."""
    places: dict[nn.LSTM, list[Site | None]] = {}
    for site, link in zip(sites, links, strict=True):
        for _, layer in link.consumers:
            if isinstance(layer, nn.LSTM):
                places.setdefault(layer, [None] * layer.num_layers)[link.layer] = site
    for module, in_sites in places.items():
        lstm: Any = module
        lstm.__class__ = LSTM
        lstm.attach(in_sites)


def _apply(site: Site, link: Link, prune_weight_grad: bool) -> None:
    dropout: Any = link.dropout
    if not isinstance(dropout, nn.LSTM):
        dropout.__class__ = DROPOUTS[site.method]
        dropout.attach(site)
    reads = "weight_site" if site.method == "tile" else "in_site"
    readers = (layer for _, layer in link.consumers if not isinstance(layer, nn.LSTM))
    beside: list[tuple[Any, str]] = [(layer, reads) for layer in readers]
    if link.producer is not None:
        beside.append((link.producer[1], "out_site"))
    for layer, attribute in beside:
        if attribute == "weight_site":
            layer.__class__ = TileDropLinear
        elif not isinstance(layer, Linear):
            layer.__class__ = Linear
        setattr(layer, attribute, site)
        if not prune_weight_grad:
            layer.prune_weight_grad = False
    if link.relu is not None:
        relu: Any = link.relu[1]
        relu.__class__ = ReLU
        relu.site = site
        site.folds_relu = True
