"""Networks for the layer tests, and the same masks run densely with plain PyTorch."""

import torch
from torch import nn

import dropgemm as dg
from dropgemm.methods import METHODS as METHODS
from dropgemm.torch import TileDropLinear, TileDropout

RUN = {"total_steps": 12, "seed": 5, "subnets": 4, "coscheduled": 2}
TILE = {"tile_rows": 16, "tile_cols": 8}
P = 0.5

# Every shape of chain that convert tells apart; each maps 20 features to something.
NETWORKS = {
    "mlp": lambda: nn.Sequential(
        nn.Linear(20, 48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 40), nn.GELU(), nn.Dropout(P),
        nn.Linear(40, 3)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(20, 48), nn.Sequential(nn.Tanh())), nn.Dropout(P),
        nn.Sequential(nn.Linear(48, 3), nn.ReLU())),
    "not zero at zero": lambda: nn.Sequential(
        nn.Linear(20, 48), nn.Sigmoid(), nn.Dropout(P), nn.Linear(48, 3)),
    "dropout first, then relu": lambda: nn.Sequential(
        nn.Linear(20, 48), nn.Dropout(P), nn.ReLU(), nn.Linear(48, 3)),
    "dropout first, then sigmoid": lambda: nn.Sequential(
        nn.Linear(20, 48), nn.Dropout(P), nn.Sigmoid(), nn.Linear(48, 3)),
    "norm between": lambda: nn.Sequential(
        nn.Linear(20, 48), nn.LayerNorm(48), nn.ReLU(), nn.Dropout(P), nn.Linear(48, 3)),
    "inputs": lambda: nn.Sequential(nn.Dropout(P), nn.Linear(20, 3, bias=False)),
    "outputs": lambda: nn.Sequential(nn.Linear(20, 48, bias=False), nn.ReLU(), nn.Dropout(P)),
    "in place": lambda: nn.Sequential(
        nn.Linear(20, 48), nn.ReLU(inplace=True), nn.Dropout(P, inplace=True), nn.Linear(48, 3)),
}  # fmt: skip


def make(name, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return NETWORKS[name]().to(dtype)


def flatten(model):
    for module in model:
        if type(module) is nn.Sequential:
            yield from flatten(module)
        else:
            yield module


def pattern(site, step, rows, features, like, call=0):
    """The sampled mask and its scale, as bool and float."""
    tile = site.settings.weight_tile if site.method == "tile" else None
    most = features if tile is None else min(-(-rows // tile[0]), -(-features // tile[1]))
    mask, scale = dg.search_distribution(site.p, None, site.settings.search, features=most).mask(
        RUN["seed"], site.id, step, rows, features, call=call, like=like, tile=tile
    )
    return mask.to_dense(), float(scale)


def site_mask(site, step, x):
    """The mask [rows, features] that a site should use, through the functional API alone."""
    batch, features = x.shape[0], x.shape[-1]
    if site.method == "row":
        return pattern(site, step, x.numel() // features, features, x)[0].view(x.shape)
    if site.method == "bernoulli":
        features = x[0].numel()
        key = int(site.draws.key) % (1 << 64)
        mask = dg.bernoulli_mask(batch, features, site.p, seed=key, site=site.id, like=x)
        return mask.to_dense().view(x.shape)
    rows = 1 if x.dim() == 2 else x.shape[1]
    if site.method == "block":
        tile = {"tile_rows": -(-TILE["tile_rows"] // rows), "tile_cols": TILE["tile_cols"]}
    else:
        tile = {}
        if x.dim() > 2:  # element-wise: the features are all the other dimensions
            features, rows = features * rows, 1
    schedule = dg.GyroSchedule(features, site.p, site=site.id, **RUN, **tile)
    keep = schedule.mask(step, batch, like=x).to_dense()
    return keep.repeat_interleave(rows, 0).view(x.shape)


def run_dense(model, step, x):
    """What a converted `model` should compute: every dropout an explicit mask and scale."""
    for module in flatten(model):
        if isinstance(module, TileDropout):
            continue
        if isinstance(module, nn.Dropout):
            site = module.site
            scale = (
                pattern(site, step, 1, x.shape[-1], x)[1] if site.method == "row" else site.scale
            )
            x = torch.where(site_mask(site, step, x), x * scale, 0.0)
        elif isinstance(module, TileDropLinear):
            keep, scale = pattern(module.weight_site, step, *module.weight.shape, x)
            weight = torch.where(keep, module.weight * scale, 0.0)
            x = nn.functional.linear(x, weight, module.bias)
        elif isinstance(module, nn.Linear):
            x = nn.functional.linear(x, module.weight, module.bias)
        elif isinstance(module, nn.ReLU):
            x = nn.functional.relu(x)
        else:
            x = module(x)
    return x


def gradients(output, model, x):
    """d(weighted sum of output) / d(x and every parameter)."""
    weights = torch.linspace(
        -1.0, 1.0, output.numel(), dtype=output.dtype, device=output.device
    ).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), [x, *model.parameters()])
