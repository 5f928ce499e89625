"""What the library should compute, written out in NumPy and plain Python (DESIGN: float64,
explicit 0/1 masks). Nothing here calls dropgemm but to read a mask's bits."""

import math

import ml_dtypes
import numpy as np
import torch

BFLOAT16 = ml_dtypes.bfloat16
# The spacing of numbers just above 1, and that of what they are summed in.
EPS = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52, np.dtype(BFLOAT16): 2.0**-7}
SUM_EPS = EPS | {np.dtype(BFLOAT16): 2.0**-23}


def to_numpy(array):
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    if array.dtype == torch.bfloat16:
        return array.detach().view(torch.int16).numpy().view(BFLOAT16)
    return array.detach().numpy()


def to_framework(array, framework):
    if framework != "torch":
        return array
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def relu(z):
    return np.maximum(z, 0.0)


def gelu(z):
    return 0.5 * z * (1.0 + torch.erf(torch.from_numpy(z / math.sqrt(2.0))).numpy())


def gelu_tanh(z):
    return 0.5 * z * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))


ACTIVATIONS = {None: lambda z: z, "relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh}
LIPSCHITZ = {None: 1.0, "relu": 1.0, "gelu": 1.13, "gelu_tanh": 1.13}


def kept(array, mask):
    """`array` in float64 with dropped elements 0."""
    array = array.astype(np.float64)
    return array if mask is None else np.where(to_numpy(mask.to_dense()), array, 0.0)


def poison(array, mask, value=np.nan):
    """`array` with its dropped elements overwritten."""
    if mask is None:
        return array
    return np.where(to_numpy(mask.to_dense()), array, np.asarray(value, array.dtype))


def product(a, b, a_mask=None, b_mask=None, out_mask=None, trans_a=False, trans_b=False, bias=None,
            addend=None, activation=None, scale=1.0, out_scale=1.0):  # fmt: skip
    """The operator and the tolerance of each element of it, both in float64."""
    dtype = a.dtype
    a, b = kept(a, a_mask), kept(b, b_mask)
    a, b = a.T if trans_a else a, b.T if trans_b else b
    bias = np.zeros(b.shape[1]) if bias is None else bias.astype(np.float64)
    addend = np.zeros((a.shape[0], b.shape[1])) if addend is None else addend.astype(np.float64)
    result = out_scale * ACTIVATIONS[activation](scale * (a @ b) + addend + bias)
    size = abs(scale) * (abs(a) @ abs(b)) + abs(addend) + abs(bias)
    depth = max(int((a != 0).sum(axis=1).max(initial=0)), 1)
    tolerance = (
        2.0 * SUM_EPS[dtype] * math.sqrt(depth) * size * LIPSCHITZ[activation] * abs(out_scale)
    )
    tolerance = tolerance + EPS[dtype] * abs(result) + ml_dtypes.finfo(dtype).tiny
    if out_mask is not None:
        keep = to_numpy(out_mask.to_dense())
        result, tolerance = np.where(keep, result, 0.0), np.where(keep, tolerance, 0.0)
    return result, tolerance


def assert_within(got, expected, tolerance):
    """Every element within its own tolerance; the message names the worst."""
    got = to_numpy(got)
    assert got.shape == expected.shape
    if not got.size:
        return
    error = abs(got.astype(np.float64) - expected)
    excess = np.where(np.isnan(error), np.inf, error - tolerance)
    worst = np.unravel_index(excess.argmax(), excess.shape)
    assert excess[worst] <= 0, (
        f"element {worst}: got {got[worst]!r}, expected {expected[worst]!r} within "
        f"{np.broadcast_to(tolerance, got.shape)[worst]:.3g}, off by {error[worst]:.3g}"
    )


# --- Philox and the draws (include/dropgemm/philox.h) -----------------------------------------


def philox(counter, key):
    """Philox4x32-10, one block of four words."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def draws(seed, domain, site, index, call, first, count):
    """The draws of tiles first .. first + count - 1."""
    key = (seed & 0xFFFFFFFF, seed >> 32)
    tiles = range(first, first + count)
    return [philox((t // 4, index, site, domain << 28 | call), key)[t % 4] for t in tiles]


BITS, EXACT, SUBNET_IDS, PATTERN, OFFSET = 1, 2, 3, 4, 5


def bernoulli_tiles(p, seed, site, index, call, rows, cols):
    """Kept tiles of a mask of independent draws; rows start at multiples of 4."""
    pitch = 4 * -(-cols // 4)
    threshold = int(p * 2**32)
    return np.array(
        [
            [draw >= threshold for draw in draws(seed, BITS, site, index, call, i * pitch, cols)]
            for i in range(rows)
        ],
        bool,
    ).reshape(rows, cols)


def keep_count(p, tiles):
    count = math.floor((1.0 - p) * tiles + 0.5)
    return max(count, 1) if p < 1.0 and tiles else count


def exact_tiles(p, seed, site, subnet, cols):
    """Kept tiles of one subnet: the k smallest draws, ties to the lower tile."""
    order = sorted(zip(draws(seed, EXACT, site, subnet, 0, 0, cols), range(cols), strict=True))
    keep = np.zeros(cols, bool)
    keep[[tile for _, tile in order[: keep_count(p, cols)]]] = True
    return keep


# --- Patterns (include/dropgemm/pattern.h) ------------------------------------------------------


def pattern_tiles(period, offset, rows, cols, skew=0):
    """Kept tiles of a pattern; skew 0 is a row pattern's."""
    r, c = np.indices((rows, cols))
    return (c + skew * r - offset) % period == 0


def drawn_pattern(thresholds, seed, site, step, call):
    """(period, offset) of a draw."""
    (draw,) = draws(seed, PATTERN, site, step, call, 0, 1)
    period = 1 + sum(draw >= int(threshold) for threshold in thresholds)
    (draw,) = draws(seed, OFFSET, site, step, call, 0, 1)
    return period, draw * period >> 32


# --- The schedule (DESIGN, "Gyro") --------------------------------------------------------------


def gyro_groups(step, batch, total, subnets, tau, tile_rows):
    """(R, subnet of each row group) at a step: the formulas as they are printed."""
    s = min(step * subnets // (total * tau), -(-subnets // tau) - 1)
    tau_s = min(tau, subnets - s * tau)
    rows = tile_rows or max(-(-batch // tau_s), 1)
    groups = -(-batch // rows)
    u = step - -(-s * total * tau // subnets)
    if groups >= tau_s:
        return rows, [s * tau + (j * tau_s // groups + u) % tau_s for j in range(groups)]
    return rows, [s * tau + (u * groups + j) % tau_s for j in range(groups)]


def random_ids(seed, step, subnets, tau):
    """order="random": tau of the subnets, without replacement, by smallest draw."""
    order = sorted(
        zip(draws(seed, SUBNET_IDS, 0, step, 0, 0, subnets), range(subnets), strict=True)
    )
    return [subnet for _, subnet in order[:tau]]
