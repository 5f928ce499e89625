"""The examples run, and what they train gets better."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from dropgemm.demo import data
from images import write_fashion

EXAMPLES = Path(__file__).parent.parent.parent / "python" / "examples"


@pytest.mark.filterwarnings("ignore:a run of .* steps at batch")
def test_language_models_learn_a_text(tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("the cat sat on the mat and the dog lay on the rug near a door . " * 60)
    example = runpy.run_path(str(EXAMPLES / "lstm_language_model.py"))
    methods = ["conventional", "row", "units:row", "own:block", "tile"]
    options = "--hidden 64 --batch 4 --length 8 --epochs 3 --vocabulary 20 --lr .02 --methods"
    found = example["main"](["--text", str(text), *options.split(), *methods])
    assert list(found) == methods
    # 12 words, equally likely where nothing is learned, but for "the" and "on".
    assert all(perplexity < 4.0 for perplexity in found.values()), found
    assert capsys.readouterr().out.count("ms a step") == 3 * len(methods)


def test_an_ensemble_knows_what_it_is_unsure_of(monkeypatch, capsys):
    """Two overlapping classes and eight that are far apart, in place of the digits."""
    torch.manual_seed(0)
    labels = torch.arange(1200) % 10
    x = torch.randn(1200, 12)
    x[:, :10] += 6 * nn.functional.one_hot(labels.clamp(min=1), 10)  # 0 looks like 1
    digits = data.Dataset("classes", x[:1000], labels[:1000], x[1000:], labels[1000:])
    monkeypatch.setattr(data, "load_digits", lambda: digits)
    example = runpy.run_path(str(EXAMPLES / "ensemble_digits.py"))
    options = "--hidden 128 --batch 64 --epochs 12 --subnets 5 --method"
    found = example["main"]([*options.split(), "block"])
    # Half of two tenths is all that can be guessed.
    assert found["one network"] > 0.8
    assert found["ensemble"] > 0.8
    assert found["sure"] > found["ensemble"]
    printed = capsys.readouterr().out
    assert "block: 2 of 2 dropouts, 180 steps, 48 subnets" in printed
    unsure, right = map(float, re.findall(r"([\d.]+)(?: nats)? where", printed))
    assert unsure > right
    assert "5 subnets of 200 images" in printed


def test_a_text_that_is_too_short_is_refused(tmp_path):
    text = tmp_path / "text"
    text.write_text("a few words")
    example = runpy.run_path(str(EXAMPLES / "lstm_language_model.py"))
    with pytest.raises(SystemExit, match="--text: expected 701 words at least in each tenth"):
        example["main"](["--text", str(text)])


OPTIONS = "--epochs 6 --batch 64"


@pytest.mark.filterwarnings("ignore:a run of .* steps at batch")
def test_plain_jax_learns_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DROPGEMM_DATA", str(write_fashion(tmp_path)))
    example = runpy.run_path(str(EXAMPLES / "jax_images.py"))
    found = example["main"]([*OPTIONS.split(), "--hidden", "128"])
    assert list(found) == ["conventional", "block", "row"]
    assert all(accuracy > 0.9 for accuracy in found.values()), found
    assert capsys.readouterr().out.count("ms a step") == 3


@pytest.mark.filterwarnings("ignore:a run of .* steps at batch")
def test_a_flax_module_learns_images_and_is_compiled_once(tmp_path, capsys, monkeypatch):
    pytest.importorskip("flax")
    monkeypatch.setenv("DROPGEMM_DATA", str(write_fashion(tmp_path)))
    example = runpy.run_path(str(EXAMPLES / "flax_images.py"))
    assert example["main"]([*OPTIONS.split(), "--width", "128"])[-1] > 0.9
    assert "compiled 1 time(s) for 48 steps" in capsys.readouterr().out
