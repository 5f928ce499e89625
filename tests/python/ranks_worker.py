"""What is started under torchrun: every rank trains, and writes down what it did.

    ranks_worker.py FOLDER cpu|cuda

The numbers are small multiples of powers of two, so that every product and sum is exact: whoever
adds them, in whatever order, comes to the same bits.
"""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from itertools import product
from pathlib import Path

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from dropgemm.methods import METHODS
from dropgemm.ranks import RANK_POLICIES
from dropgemm.torch import SGD, convert

WRAPPERS = ("ddp", "fsdp2")
CASES = list(product(WRAPPERS, RANK_POLICIES, METHODS))
WORLD = 2
BATCH = 20  # of a rank: groups of 16 begin in the one and end in the other
STEPS = 4
SECONDS = 240  # that everything may take; it takes about 5 on an idle machine
SAVED = 2  # the step whose state is kept
SETTINGS = {
    "total_steps": STEPS, "seed": 5, "subnets": 4, "coscheduled": 2, "tile_rows": 16,
    "tile_cols": 8, "weight_tile": (8, 8),
}  # fmt: skip


def integers(*shape, seed, divisor=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=generator).double() / divisor


def make_model():
    model = nn.Sequential(
        nn.Linear(12, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 48), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(48, 3),
    ).double()  # fmt: skip
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(integers(*parameter.shape, seed=seed, divisor=4))
    return model


def batches(step):
    """Inputs of all ranks, and what their outputs are weighed with."""
    samples = WORLD * BATCH
    return integers(samples, 12, seed=100 + step), integers(samples, 3, seed=200 + step)


def loss_of(outputs, weights):
    """A mean over the samples, but for a power of two in place of their number."""
    return (outputs * weights).sum() * (BATCH / len(outputs) / 16)


def run_ranks(folder, kind):
    """What each rank writes down, {case: ...}, of a run on CPUs or on GPUs."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc-per-node={WORLD}", __file__, str(folder), kind]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(
            f"ranks: expected an end within {SECONDS} s, got none\n{output}"
        ) from None
    assert process.returncode == 0, output
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


class Recorder:
    """Draws as a site does, and keeps what a forward was given."""

    def __init__(self, site):
        self.draw = site.draw
        self.drawn = []
        site.draw = self

    def __call__(self, *asked):
        drawn = self.draw(*asked)
        self.drawn.append((drawn.mask.to_dense().cpu(), float(drawn.scale)))
        return drawn


def whole(tensor):
    """A parameter or gradient of which this rank may have a shard."""
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.detach().clone().cpu()


def start(device, wrapper, policy, method):
    """A model that is trained by all ranks, its optimizer and schedule, and who steps it."""
    model = make_model().to(device)
    if wrapper == "ddp":
        optimizer = SGD(model.parameters(), lr=1 / 64)
        schedule = convert(model, optimizer, method=method, rank_policy=policy, **SETTINGS)
        return DistributedDataParallel(model), optimizer, schedule, lambda: None
    schedule = convert(model, method=method, rank_policy=policy, advance="manual", **SETTINGS)
    mesh = init_device_mesh(device.type, (WORLD,))
    for layer in (model[0], model[3], model[6]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = SGD(model.parameters(), lr=1 / 64)
    return model, optimizer, schedule, schedule.step


def train(rank, device, wrapper, policy, method):
    """Parameters, masks and gradients of each step, and the state of the schedule at one."""
    model, optimizer, schedule, advance = start(device, wrapper, policy, method)
    recorders = [Recorder(site) for site in schedule.sites]
    mine = slice(rank * BATCH, (rank + 1) * BATCH)
    steps, state = [], None
    for step in range(STEPS):
        if step == SAVED:
            state = schedule.state_dict()
        x, weights = (tensor.to(device) for tensor in batches(step))
        before = [whole(p) for p in model.parameters()]
        torch.manual_seed(step)  # what "bernoulli" draws its keys from
        optimizer.zero_grad()
        loss_of(model(x[mine]), weights[mine]).backward()
        steps.append({
            "parameters": before,
            "masks": [recorder.drawn[-1] for recorder in recorders],
            "gradients": [whole(p.grad) for p in model.parameters()],
        })  # fmt: skip
        optimizer.step()
        advance()
        with torch.no_grad():
            for parameter in model.parameters():  # few bits again, elementwise
                parameter.copy_((parameter * 16).round().clamp(-64, 64) / 16)
    return {"steps": steps, "state": state}


def main():
    torch.set_num_threads(1)
    folder, kind = sys.argv[1:]
    rank = int(os.environ["RANK"])
    device = torch.device("cuda", rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=SECONDS))
    results = {case: train(rank, device, *case) for case in CASES}
    torch.save(results, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
