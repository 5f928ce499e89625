"""A LightningModule that goes on where it was killed, and ends with the same weights to the bit.

    python resume_lightning.py --folder run    # kill it at any time; start it again

Two hooks are all that a LightningModule needs: on_save_checkpoint puts the state of the dropout
schedule into the checkpoint, on_load_checkpoint takes it out. Where Lightning is not installed, a
loop of a few lines stands in for its Trainer and calls the same hooks.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

import dropgemm.torch

try:
    import lightning.pytorch as lightning
except ImportError:
    try:
        import pytorch_lightning as lightning
    except ImportError:
        lightning = None

SAMPLES, FEATURES, CLASSES, BATCH = 1024, 32, 4, 128
Module: Any = nn.Module if lightning is None else lightning.LightningModule


class Classifier(Module):
    """An MLP whose dropouts are dropgemm's."""

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 256), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, CLASSES),
        )  # fmt: skip
        # Before there is an optimizer: checkpoints are loaded into the module first.
        self.schedule = dropgemm.torch.convert(
            self.layers, method="block", total_steps=total_steps, subnets=64, tile_rows=16,
            advance="manual",
        )  # fmt: skip

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        print(f"step {int(self.schedule.clock.step)}: loss {loss.item():.4f}", flush=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        optimizer.register_step_post_hook(lambda *_: self.schedule.step())
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["dropout"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.schedule.load_state_dict(checkpoint["dropout"])


class Shuffled(Sampler[int]):
    """An order that depends on the number of the epoch alone."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The trainer calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randperm(SAMPLES, generator=generator).tolist())


def make_loader() -> DataLoader[tuple[Tensor, ...]]:
    """Points around one centre for each class."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    points = centres[labels] + 3 * torch.randn(SAMPLES, FEATURES, generator=generator)
    return DataLoader(TensorDataset(points, labels), batch_size=BATCH, sampler=Shuffled())


def fit_by_lightning(module: Any, loader: Any, epochs: int, path: Path) -> None:
    """The Trainer, with a checkpoint at the end of each epoch that takes its name when whole."""
    keep = lightning.callbacks.ModelCheckpoint(
        dirpath=path.parent, filename=path.stem, enable_version_counter=False
    )
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[keep],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=path if path.exists() else None)


def fit_by_hand(module: Any, loader: Any, epochs: int, path: Path) -> None:
    """What the Trainer does of this, in the order in which it calls the hooks."""
    start = 0
    checkpoint: dict[str, Any] = {}
    if path.exists():
        checkpoint = torch.load(path, weights_only=True)
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
        start = checkpoint["epoch"] + 1
    optimizer = module.configure_optimizers()
    if checkpoint:
        optimizer.load_state_dict(checkpoint["optimizer"])
    for epoch in range(start, epochs):
        loader.sampler.set_epoch(epoch)
        for index, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch, index).backward()
            optimizer.step()
        checkpoint = {
            "epoch": epoch, "state_dict": module.state_dict(),
            "optimizer": optimizer.state_dict(),
        }  # fmt: skip
        module.on_save_checkpoint(checkpoint)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("resume_lightning"))
    parser.add_argument("--epochs", type=int, default=40, help="of the whole run (40)")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    loader = make_loader()
    module = Classifier(total_steps=args.epochs * len(loader))
    fit = fit_by_hand if lightning is None else fit_by_lightning
    fit(module, loader, args.epochs, args.folder / "last.ckpt")
    weights = args.folder / "weights.pt"
    torch.save(module.layers.state_dict(), weights)
    print(f"{module.schedule}, weights in {weights}")


if __name__ == "__main__":
    main()
