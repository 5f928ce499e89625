"""A training loop that goes on where it was killed, and ends with the same weights to the bit.

    python resume_plain.py --folder run    # kill it at any time, even by kill -9; start it again

Three things make it so. The checkpoint has everything that the next step depends on, the dropout
schedule with its step among it. What a step trains on follows from its number alone. And a
checkpoint takes its name when it is whole, so that whoever is killed while writing leaves the one
before.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dropgemm.torch

SAMPLES, FEATURES, CLASSES, BATCH = 4096, 32, 4, 128


def make_data() -> tuple[Tensor, Tensor]:
    """Points around one centre for each class."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    return centres[labels] + 3 * torch.randn(SAMPLES, FEATURES, generator=generator), labels


def rows_of(step: int) -> Tensor:
    """The samples of a step: the order of an epoch depends on its number alone."""
    epoch, index = divmod(step, SAMPLES // BATCH)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
    return order[index * BATCH : (index + 1) * BATCH]


def save(state: dict[str, Any], path: Path) -> None:
    """Writes under another name, and then renames, which happens as a whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("resume_plain"))
    parser.add_argument("--steps", type=int, default=320, help="of the whole run (320)")
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints (10)")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = args.folder / "checkpoint.pt"

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(FEATURES, 256), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, CLASSES),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    schedule = dropgemm.torch.convert(
        model, optimizer, method="block", total_steps=args.steps, subnets=64, tile_rows=16
    )
    parts: dict[str, Any] = {
        "model": model, "optimizer": optimizer, "decay": decay, "dropout": schedule,
    }  # fmt: skip

    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"])
    start = int(schedule.clock.step)
    print(f"from step {start}", flush=True)

    x, y = make_data()
    for step in range(start, args.steps):
        rows = rows_of(step)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # and the schedule's
        decay.step()
        print(f"step {step}: loss {loss.item():.4f}", flush=True)
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            states = {name: part.state_dict() for name, part in parts.items()}
            save({**states, "random": torch.get_rng_state()}, checkpoint)

    model.eval()
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == y).float().mean().item()
    print(f"accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
