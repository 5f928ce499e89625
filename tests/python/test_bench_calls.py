"""bench/calls.py: what it refuses and writes, never how fast anything is."""

import json

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--rows 0", "--rows: expected a whole number from 1 to"),
        ("--seconds none", "--seconds: expected seconds from 0.01"),
        ("--name a/b", "--name: expected a name without folders, got 'a/b'"),
        ("", "calls.json exists: pass --overwrite, or another --name"),
    ],
)
def test_calls_are_refused_before_they_are_measured(bench, capsys, arguments, message):
    import calls

    (bench / "calls.json").write_text("{}\n")
    with pytest.raises(SystemExit) as error:
        calls.main(arguments.split())
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert (bench / "calls.json").read_text() == "{}\n"


def test_every_call_is_measured_beside_pytorchs(bench):
    import calls
    import tables

    calls.main(["--rows", "3", "--width", "32", "--seconds", "0.01"])
    rows = json.loads((bench / "calls.json").read_text())["rows"]
    assert all(row["us"] > 0 for row in rows)
    beside = {row["call"]: row["beside"] for row in rows if "beside" in row}
    assert beside["`dropgemm.matmul`, two masks"] == "`F.linear`"
    assert set(beside.values()) == {"`F.linear`", "`nn.Linear`", calls.THREE}
    layers = [line for line in tables.calls().splitlines() if line.startswith("| the same")]
    assert [line.count(" us, ") for line in layers] == [2, 2]
    assert tables.mask_calls().count(" us |") == 6
