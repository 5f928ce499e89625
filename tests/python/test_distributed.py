"""Two processes on the loopback under torchrun: DistributedDataParallel and FSDP2.

Numbers are such that all sums are exact (ranks_worker.py), so that the tolerance of gradients,
which is that of adding in another order, is 0.
"""

import pytest
import torch
from torch import distributed, nn

if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("this PyTorch has no torch.distributed with gloo", allow_module_level=True)

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from dropgemm.torch import TileDropLinear, TileDropout, convert, revert
from ranks_worker import (
    BATCH,
    CASES,
    SAVED,
    SETTINGS,
    STEPS,
    WORLD,
    batches,
    loss_of,
    make_model,
    run_ranks,
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each rank wrote down, {case: ...}."""
    return run_ranks(tmp_path_factory.mktemp("ranks"), "cpu")


def one_process(method, policy="disjoint"):
    model = make_model()
    return model, convert(model, method=method, rank_policy=policy, advance="manual", **SETTINGS)


def load(model, parameters):
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), parameters, strict=True):
            ours.copy_(theirs)


def masks_of(schedule, step, batch):
    """Of each site, in one process, and its scale."""
    schedule.clock.step.fill_(step)
    torch.manual_seed(step)
    drawn = [site.draw(batch) for site in schedule.sites]
    return [(d.mask.to_dense(), float(d.scale)) for d in drawn]


def equal(ours, theirs):
    return all(
        torch.equal(a, b) and scale == factor
        for (a, scale), (b, factor) in zip(ours, theirs, strict=True)
    )


def stacked(steps, method):
    """The masks of all ranks, over one another; those of weights are the same on all."""
    sites = zip(*(step["masks"] for step in steps), strict=True)
    if method == "tile":
        return [masks[0] for masks in sites]
    return [(torch.cat([keep for keep, _ in masks]), masks[0][1]) for masks in sites]


def run_dense(model, x, masks):
    """The network with explicit masks and scales, by plain PyTorch."""
    for module in model:
        if isinstance(module, TileDropLinear):
            keep, scale = masks[module.weight_site.id]
            x = nn.functional.linear(x, module.weight * keep * scale, module.bias)
        elif isinstance(module, nn.Linear):
            x = nn.functional.linear(x, module.weight, module.bias)
        elif isinstance(module, nn.ReLU):
            x = torch.relu(x)
        elif not isinstance(module, TileDropout):
            keep, scale = masks[module.site.id]
            x = x * keep * scale
    return x


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_ranks_train_as_one_process_does(ranks, case):
    _, policy, method = case
    model, schedule = one_process(method)
    for step in range(STEPS):
        theirs = [rank[case]["steps"][step] for rank in ranks]
        for rank in theirs[1:]:
            assert all(map(torch.equal, rank["parameters"], theirs[0]["parameters"]))
            assert all(map(torch.equal, rank["gradients"], theirs[0]["gradients"]))
        masks = stacked(theirs, method)
        if policy == "disjoint":
            assert equal(masks, masks_of(schedule, step, WORLD * BATCH))
        else:
            own = masks_of(schedule, step, BATCH)
            assert all(equal(rank["masks"], own) for rank in theirs)

        load(model, theirs[0]["parameters"])
        x, weights = batches(step)
        expected = gradients(model, loss_of(run_dense(model, x, masks), weights))
        assert all(gradient.any() for gradient in expected)
        assert all(map(torch.equal, theirs[0]["gradients"], expected))
        if policy == "disjoint":
            torch.manual_seed(step)
            joined = gradients(model, loss_of(model(x), weights))
            assert all(map(torch.equal, joined, expected))


@pytest.fixture
def alone():
    """A process group of this process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_models_are_converted_before_they_are_sharded(alone):
    for layers in ((0, 3, 6), ()):
        model = make_model()
        for layer in layers:
            fully_shard(model[layer], mesh=init_device_mesh("cpu", (1,)))
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ValueError, match=r"fully_shard has not seen yet.*got FSDPSequential"):
            convert(model, method="block", advance="manual", **SETTINGS)
    model, _ = one_process("block")
    fully_shard(model[3], mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ValueError, match=r"fully_shard has not seen yet.*got FSDPLinear at '3'"):
        revert(model)


def test_a_model_may_be_wrapped_before_it_is_converted(alone):
    model = DistributedDataParallel(make_model())
    convert(model, method="block", advance="manual", **SETTINGS)
    model(batches(0)[0]).sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_ranks_are_known_to_compiled_models(alone):
    for group in (None, distributed.new_group([0])):
        model = make_model()
        convert(model, method="block", advance="manual", process_group=group, **SETTINGS)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        for samples in (40, 40, 24):
            x = batches(0)[0][:samples]
            assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_run_goes_on_in_a_world_of_another_size(ranks, case):
    """One process takes over at a step, with the batches of both."""
    _, policy, method = case
    _, schedule = one_process(method, policy)
    schedule.load_state_dict(ranks[1][case]["state"])
    for step in range(SAVED, STEPS):
        assert int(schedule.clock.step) == step
        theirs = [rank[case]["steps"][step] for rank in ranks]
        if policy == "disjoint":
            assert equal(stacked(theirs, method), masks_of(schedule, step, WORLD * BATCH))
        else:
            assert equal(theirs[1]["masks"], masks_of(schedule, step, BATCH))
        schedule.step()
