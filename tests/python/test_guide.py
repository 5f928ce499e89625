"""What the guides show is true: their Python blocks run, in order, and print what they say."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import dropgemm as dg

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PACKAGE = ROOT / "python" / "README.md"
GUIDES = [
    PACKAGE,
    *(ROOT / "python" / "dropgemm" / name / "README.md" for name in ("torch", "jax")),
]
OTHERS = [README, ROOT / "include" / "dropgemm" / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)]+)\)")


def run(path, namespace, capsys):
    """Runs the blocks in one namespace; errors carry the line of the file."""
    text = path.read_text()
    for block in BLOCK.finditer(text):
        lines = text[: block.start(1)].count("\n")
        exec(compile("\n" * lines + block[1], str(path), "exec"), namespace)
        assert capsys.readouterr().out.splitlines() == EXPECTED.findall(block[1])


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.parent.name)
def test_the_guides_run(path, capsys):
    run(path, {"__name__": "guide"}, capsys)


def test_the_readmes_excerpts_run_in_a_training_script(capsys):
    """They are excerpts: here is the script around them."""
    steps, batch = 10_000, 256
    model = nn.Sequential(nn.Linear(2048, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, w = torch.randn(batch, 16).numpy(), torch.randn(2048, 16).numpy()
    names = {"model": model, "optimizer": optimizer, "checkpoint": {}, "steps": steps}
    names |= {"step": 5, "batch": batch, "x": x, "w": w}
    run(README, names, capsys)
    assert names["checkpoint"]["dropout"]["step"] == 0
    assert isinstance(names["mask"], dg.TileMask)
    assert not names["y"][~names["mask"].to_dense()].any()


def prose(path):
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", [*GUIDES, *OTHERS], ids=lambda path: path.parent.name)
def test_links_lead_somewhere(path):
    for link in LINK.findall(prose(path)):
        if "://" not in link:
            name, _, place = link.partition("#")
            target = path.parent / name if name else path
            assert target.exists(), link
            assert not place or place in map(anchor, HEADING.findall(prose(target))), link
