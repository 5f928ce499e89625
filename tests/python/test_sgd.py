"""SGD against torch.optim.SGD: the same parameters, states and refusals."""

import copy
import io

import pytest
import torch
from torch import nn

import dropgemm.torch
from dropgemm.torch import SGD, convert
from networks import METHODS, RUN, TILE, make

OPTIONS = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "dampening": 0.3},
    {"weight_decay": 0.02},
    {"momentum": 0.9, "weight_decay": 0.02, "maximize": True},
    {"maximize": True},
]
IDS = [", ".join(options) or "plain" for options in OPTIONS]


def pair(model, options, lr=0.05):
    """The model with our optimizer, and a copy with PyTorch's."""
    other = copy.deepcopy(model)
    ours = SGD(model.parameters(), lr=lr, **options)
    return (model, ours), (other, torch.optim.SGD(other.parameters(), lr=lr, **options))


def set_gradients(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def assert_close(model, other, steps=1):
    """Both compute each step in the dtype: 8 roundings of numbers of this size, on either side."""
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        largest = max(1.0, float(theirs.detach().abs().max()))
        bound = 16 * steps * torch.finfo(ours.dtype).eps * largest
        assert float((ours - theirs).detach().abs().max()) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_a_step_is_pytorchs(options, dtype):
    (model, ours), (other, theirs) = pair(make("mlp", dtype=dtype), options)
    for step in range(4):
        for m, optimizer in ((model, ours), (other, theirs)):
            set_gradients(m, step)
            optimizer.step()
        assert_close(model, other, step + 1)
    assert ours.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()


@pytest.mark.parametrize("options", OPTIONS[:2], ids=IDS[:2])
@pytest.mark.parametrize("method", METHODS)
def test_training_a_converted_model_is_the_same(method, options):
    runs = pair(make("mlp", seed=3), options)
    for model, optimizer in runs:
        schedule = convert(model, optimizer, method=method, **RUN, **TILE)
        torch.manual_seed(5)
        for x in torch.randn(5, 40, 20, dtype=torch.float64):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        assert int(schedule.clock.step) == 5  # the hooks ran once a step
    assert_close(runs[0][0], runs[1][0], steps=1000)


def test_weights_whose_gradient_is_zero_stay():
    model = nn.Linear(64, 64)
    before = model.weight.detach().clone()
    model.weight.grad = torch.zeros(64, 64)
    model.weight.grad[8:16] = 1.0
    SGD([model.weight], lr=0.5).step()
    assert torch.equal(model.weight[8:16], before[8:16] - 0.5)
    assert torch.equal(model.weight[:8], before[:8])
    assert torch.equal(model.weight[16:], before[16:])


@pytest.mark.parametrize("options", OPTIONS[:3], ids=IDS[:3])
def test_states_are_interchangeable(options):
    (model, ours), (other, theirs) = pair(make("mlp"), options)
    set_gradients(model), ours.step()
    other.load_state_dict(model.state_dict())
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    theirs.load_state_dict(torch.load(file, weights_only=True))
    for m, optimizer in ((model, ours), (other, theirs)):
        set_gradients(m, 2), optimizer.step()
    assert_close(model, other, 2)

    model.load_state_dict(other.state_dict())
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for m, optimizer in ((model, ours), (other, theirs)):
        set_gradients(m, 3), optimizer.step()
    assert_close(model, other, 3)


def test_schedulers_groups_and_closures():
    def build(kind):
        model = make("mlp")
        first, *rest = model.parameters()
        optimizer = kind(
            [{"params": [first], "lr": 0.3}, {"params": rest, "momentum": 0.5}], lr=0.1
        )
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    runs = [build(SGD), build(torch.optim.SGD)]
    for model, optimizer, scheduler in runs:
        for step in range(3):
            losses = []

            def closure(model=model, optimizer=optimizer, step=step):
                optimizer.zero_grad()
                loss = model(torch.full((4, 20), step + 1.0, dtype=torch.float64)).square().mean()
                loss.backward()
                return loss

            model.eval()
            losses.append(optimizer.step(closure))
            scheduler.step()
        assert losses[0].requires_grad
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 / 8)
    assert_close(runs[0][0], runs[1][0], 100)


def test_lr_may_be_a_tensor():
    (model, ours), (other, theirs) = pair(make("mlp"), {}, lr=torch.tensor(0.25))
    for m, optimizer in ((model, ours), (other, theirs)):
        set_gradients(m), optimizer.step()
    assert_close(model, other)


def test_clipping_accumulation_and_the_scaler():
    (model, ours), (other, theirs) = pair(make("mlp", dtype=torch.float32), {"momentum": 0.9})
    for m, optimizer in ((model, ours), (other, theirs)):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
        for step in range(3):
            optimizer.zero_grad()
            torch.manual_seed(step)
            for _ in range(2):
                scaler.scale(m.eval()(torch.randn(4, 20)).square().mean()).backward()
            if step == 1:
                next(m.parameters()).grad[0, 0] = torch.inf  # this step is left out
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(m.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
    assert_close(model, other, 100)


class _Sub(torch.Tensor):
    pass


def test_what_the_core_does_not_take_is_pytorchs():
    """Strides, other dtypes, sparse gradients, subclasses, none at all; with state across steps."""
    torch.manual_seed(0)
    values = [
        torch.randn(6, 4).t(),
        torch.randn(5).bfloat16(),
        torch.randn(3, 3),
        torch.randn(4).as_subclass(_Sub),
        torch.randn(7),
        torch.randn(2),
    ]

    def build():
        params = [
            nn.Parameter(value.clone(memory_format=torch.preserve_format)) for value in values
        ]
        for p in params[:-1]:
            p.grad = torch.ones_like(p)
        params[2].grad = torch.eye(3).to_sparse()
        return params

    ours, theirs = build(), build()
    assert not ours[0].is_contiguous()
    for options in ({}, {"lr": 0.5}):
        mine, other = SGD(ours, **options), torch.optim.SGD(theirs, foreach=False, **options)
        mine.step(), other.step()
        for p, q in zip(ours, theirs, strict=True):
            assert torch.equal(p, q)
    ours, theirs = ours[:2] + ours[3:], theirs[:2] + theirs[3:]
    mine, other = (
        kind(list(ps), momentum=0.5) for kind, ps in ((SGD, ours), (torch.optim.SGD, theirs))
    )
    for _ in range(3):
        mine.step(), other.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p.detach(), q.detach())
    assert mine.state[ours[-1]] == {}


def test_a_changed_weight_is_noticed_by_autograd():
    weight = nn.Parameter(torch.ones(3))
    y = (weight * weight).sum()
    weight.grad = torch.ones(3)
    SGD([weight]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize("options", OPTIONS[:2], ids=IDS[:2])
def test_a_compiled_step_is_pytorchs(options):
    (model, ours), (other, theirs) = pair(nn.Linear(4, 3), options)
    compiled = torch.compile(ours.step, backend="eager")
    for step in range(2):
        set_gradients(model, step), compiled()
        set_gradients(other, step), theirs.step()
        assert_close(model, other, step + 1)


def test_settings_are_checked_as_pytorch_checks_them():
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        SGD([nn.Parameter(torch.ones(1))], nesterov=True)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        SGD([nn.Parameter(torch.ones(1))], lr=-1.0)
    assert dropgemm.torch.SGD is SGD
