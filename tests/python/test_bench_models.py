"""bench/models.py: what it refuses and writes, never how fast anything is."""

import json
import re

import pytest
import torch

SMALL = "--seconds 0.01 --threads 1 --methods block row"
FEED_FORWARD = f"--set feedforward --tokens 16 {SMALL}"
ENSEMBLE = f"--set ensemble --batch 8 3 --subnets 2 {SMALL}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--set attention", r"invalid choice: 'attention' \(choose from .*feedforward.*ensemble"),
        (f"{FEED_FORWARD} --methods tile", r"invalid choice: 'tile' \(choose from .*block.*row"),
        (f"{FEED_FORWARD} --tokens 24", "--tokens: expected a multiple of 16, got 24"),
        (f"{FEED_FORWARD} --p 1", "--p: expected a rate from 0 to 0.99, got '1'"),
        (f"{ENSEMBLE} --subnets 0", "--subnets: expected a whole number from 1 to"),
        (f"{ENSEMBLE} --name a/b", "--name: expected a name without folders, got 'a/b'"),
        (ENSEMBLE, "ensemble.json exists: pass --overwrite, or another --name"),
    ],
)
def test_models_are_refused_before_they_are_measured(bench, capsys, arguments, message):
    import models

    (bench / "ensemble.json").write_text("{}\n")
    with pytest.raises(SystemExit) as error:
        models.main(arguments.split())
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert (bench / "ensemble.json").read_text() == "{}\n"


CONTENDERS = [
    ("stock", None), ("medium", None), ("dropgemm", "block"), ("dropgemm medium", "block"),
    ("dropgemm", "row"), ("dropgemm medium", "row"),
]  # fmt: skip


def contenders(rows, **case):
    same = [row for row in rows if all(row[key] == value for key, value in case.items())]
    assert all(row["ms"] > 0 and set(row["x"]) == {"stock", "medium"} for row in same)
    return [(row["contender"], row.get("method")) for row in same]


def test_a_feed_forward_is_measured(bench):
    import models

    models.main([*FEED_FORWARD.split(), "--p", "0.5"])
    result = json.loads((bench / "feedforward.json").read_text())
    assert result["set"] == "feedforward"
    for activation in ("gelu", "relu"):
        assert contenders(result["rows"], activation=activation, p=0.5) == CONTENDERS


def test_an_ensemble_is_measured(bench):
    import models

    models.main(ENSEMBLE.split())
    rows = json.loads((bench / "ensemble.json").read_text())["rows"]
    for batch in (8, 3):
        assert contenders(rows, batch=batch, subnets=2, p=0.5) == CONTENDERS


def test_all_run_the_same_subnets_or_as_many(bench):
    """PyTorch's passes have masks of the same rate, and ours drop in the same places."""
    import models

    torch.manual_seed(0)
    stock, own = models.members({"batch": 8, "subnets": 3, "p": 0.5}, ["block"])
    assert stock().shape == own["block"]().members.shape == (3, 8, 10)
    assert len(stock().unique(dim=0)) == len(own["block"]().members.unique(dim=0)) == 3
