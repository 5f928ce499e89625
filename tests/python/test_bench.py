"""The benchmarks' own behaviour: what they refuse and write, never how fast anything is."""

import json
import re
from pathlib import Path

import pytest
import torch

import dropgemm as dg

BENCH = Path(__file__).parents[2] / "bench"


def run_layers(text):
    import layers

    layers.main([*text.split(), "--seconds", "0.01", "--threads", "1"])


SMALL = "--set layer --batch 8 --features 64x96 --rows 4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--set fast", r"invalid choice: 'fast' \(choose from .*layer.*step.*breakeven"),
        (f"{SMALL} --method blocks", r"invalid choice: 'blocks' \(choose from .*block.*row.*tile"),
        (f"{SMALL} --method gyro", "--method: expected block, row, tile for layers, got gyro"),
        (f"{SMALL} --side left", r"invalid choice: 'left' \(choose from .*both.*input.*output"),
        (f"{SMALL} --contenders mkl", r"invalid choice: 'mkl' \(choose from .*stock.*dropgemm"),
        (f"{SMALL} --p 1.5", "--p: expected a rate from 0 to 0.99, got '1.5'"),
        (f"{SMALL} --p nan", "--p: expected a rate from 0 to 0.99, got 'nan'"),
        (f"{SMALL} --batch 0", r"--batch: expected a whole number from 1 to 2\^20, got '0'"),
        (f"{SMALL} --features 2x3x4", "--features: expected INPUTSxOUTPUTS"),
        (f"{SMALL} --optimizer adam", "--optimizer: expected an axis of layers .*--batch"),
        (f"{SMALL} --threads 9999", r"--threads: expected .* from 1 to \d+, the cores .*'9999'"),
        ("--set step --side both", "--side: expected an axis of steps .*--hidden"),
        (f"{SMALL} --name a/b", "--name: expected a name without folders, got 'a/b'"),
    ],
)
def test_unknown_axis_values_are_refused_with_the_legal_ones(bench, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_layers(arguments)
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(bench.iterdir())


def test_a_layer_is_measured_by_every_contender(bench):
    run_layers(f"{SMALL} --p .5 --name small")
    result = json.loads((bench / "small.json").read_text())
    assert result["set"] == "layer"
    assert result["command"].startswith("bench/layers.py --set layer")
    assert {"cpu", "date", "commit"} <= result["machine"].keys()
    parts = ("forward", "input gradient", "weight gradient", "three products")
    contenders = ("stock", "medium", "bf16", "ready masks", "index_select", "dense", "dropgemm")
    rows = {(row["part"], row["contender"]): row for row in result["rows"]}
    assert set(rows) == {(part, contender) for part in parts for contender in contenders}
    assert len(rows) == len(result["rows"])
    own = rows["three products", "dropgemm"]
    assert (own["batch"], own["inputs"], own["outputs"], own["rows"]) == (8, 64, 96, 4)
    assert own["work"] == pytest.approx(
        1 / 2 * 2 / 3, abs=1e-4
    )  # of two and of three blocks, one and two
    assert set(own["x"]) == {"stock", "medium", "bf16", "ready masks", "index_select", "dense"}
    assert all(row["ms"] > 0 and row["turns"] >= 3 for row in result["rows"])


def test_results_are_never_overwritten_silently(bench, capsys):
    kept = bench / "layer.json"
    kept.write_text("{}\n")
    with pytest.raises(SystemExit):
        run_layers(SMALL)
    assert "layer.json exists: pass --overwrite, or another --name" in capsys.readouterr().err
    assert kept.read_text() == "{}\n"
    run_layers(f"{SMALL} --contenders dropgemm --overwrite")
    assert json.loads(kept.read_text())["rows"]


def test_a_step_is_measured_by_every_contender(bench):
    run_layers("--set step --hidden 32 --batch 16 --method block row --rows 8")
    rows = json.loads((bench / "step.json").read_text())["rows"]
    assert [(row["contender"], row.get("method")) for row in rows] == [
        *((name, None) for name in ("stock", "medium", "bf16", "ready masks", "index_select")),
        ("dense", None),
        ("dropgemm SGD", "block"),
        ("dropgemm SGD", "row"),
    ]


def test_a_step_is_measured_in_every_precision_and_with_every_optimizer(bench):
    run_layers("--set step_bf16 --hidden 32 --batch 16 --rows 8 --name one")
    rows = json.loads((bench / "one.json").read_text())["rows"]
    own = ["dropgemm", "dropgemm medium", "dropgemm bf16"]
    assert [row["contender"] for row in rows] == ["stock", "medium", "bf16", *own]
    run_layers("--set optimizer --hidden 32 --batch 16 --rows 8 --contenders dropgemm")
    rows = json.loads((bench / "optimizer.json").read_text())["rows"]
    assert [row["optimizer"] for row in rows] == ["momentum", "sgd", "adam"]


def masks_of(layer, drop):
    import dropped

    return dropped.draw(layer, drop)


@pytest.mark.parametrize("method", ["block", "row", "tile"])
@pytest.mark.parametrize("side", ["both", "input", "output"])
def test_contenders_compute_the_same_products(bench, method, side):
    """Of operands that are 0 where they are dropped, as in training."""
    import cases
    import products

    drop = cases.Drop(method, side, 0.5, 8, 32, 2, "")
    layer = cases.Layer(24, 128, 96, (drop,), cases.PRODUCTS, ("ready masks", "index_select"))
    ((odds, masks),) = masks_of(layer, drop)
    assert odds == 1
    inputs, outputs, weight = (1 if m is None else m.to_dense().float() for m in masks)
    on = products.Operands(layer)
    on.x *= inputs
    on.dz *= outputs
    wanted = {
        "forward": (on.x @ (on.w * weight).t()) * outputs,
        "input gradient": (on.dz @ (on.w * weight)) * inputs,
        "weight gradient": (on.dz.t() @ on.x) * weight,
    }
    results = {"forward": on.y, "input gradient": on.dx, "weight gradient": on.dw}
    for kind in ("ready masks", "index_select", "dropgemm", "dropgemm medium"):
        # Under "medium" ours rounds operands of about 1 to bfloat16, sums of up to 128 of them.
        far = 128**0.5 * 2**-6 if kind == "dropgemm medium" else 1e-4
        for part, run in products.KINDS[kind].make(on, masks).items():
            results[part].fill_(torch.nan)
            with products.precision(products.KINDS[kind].precision):
                run()
            torch.testing.assert_close(results[part], wanted[part], rtol=0, atol=far)


def test_a_searched_drop_is_the_mean_over_its_patterns(bench):
    import cases

    layer = cases.Layer(8, 64, 64, (), cases.PRODUCTS, ())
    drawn = masks_of(layer, cases.Drop("row", "both", 0.5, 0, 1, 0, "exact"))
    found = dg.search_distribution(0.5, method="exact")
    assert len(drawn) == found.max_period**2
    assert sum(odds for odds, _ in drawn) == pytest.approx(1)
    kept = sum(odds * masks.work() for odds, masks in drawn)
    assert kept == pytest.approx(0.25, abs=0.01)  # 64 inputs are no multiple of every period


def test_layers_of_one_shape_are_measured_together(bench):
    import cases

    blocks = cases.LayerAxes(batch=(128,), p=(0.5, 0.75))
    rows = cases.LayerAxes(batch=(1024, 128), method=("row",), period=(2,))
    small, large = cases.merged(case for axes in (blocks, rows) for case in axes.cases())
    assert (small.batch, large.batch) == (128, 1024)
    assert [str(drop) for drop in small.drops] == [
        "blocks of 128 x 32, p = 0.5, both sides",
        "blocks of 128 x 32, p = 0.75, both sides",
        "rows, period 2, both sides",
    ]


def row_of(contender, part="forward", **rest):
    shape = {"batch": 256, "inputs": 1024, "outputs": 1024}
    return {**shape, "contender": contender, "part": part, **rest}


def test_a_fit_finds_the_line_that_times_lie_on(bench):
    import findings

    rows = [row_of("dropgemm", work=w, ms=2 + 10 * w) for w in (0.1, 0.25, 0.5, 1)]
    (fit,) = findings.fits([*rows, row_of("medium", ms=1)])
    assert (fit.a, fit.b) == (pytest.approx(2), pytest.approx(10))
    assert fit.excess == {
        w: pytest.approx((2 + 10 * w) / (12 * w) - 1) for w in (0.1, 0.25, 0.5, 1)
    }
    assert fit.worst == pytest.approx(4.5 / 3 - 1)  # at a quarter of the work; a tenth counts not
    small = findings.fits({**row, "batch": 128} for row in rows)
    assert [each.worst for each in small] == [None]


def test_losses_are_what_is_below_its_bound(bench):
    import findings

    def rows(dense, medium, spread):
        yield row_of("dropgemm", x={"dense": dense, "medium": 0.5}, x_spread={"dense": spread})
        yield row_of("dense", x={"medium": medium}, x_spread={"medium": spread})
        yield row_of("medium", x={"dense": 0.5}, x_spread={"dense": spread})

    assert not list(findings.losses(rows(0.98, 0.95, 0.02)))
    ours, dense = findings.losses(rows(0.97, 0.94, 0.03))
    assert (ours.baseline, dense.baseline) == ("dense", "medium")
    assert not ours.clear
    assert not dense.clear
    assert all(loss.clear for loss in findings.losses(rows(0.97, 0.94, 0.01)))


def test_a_goal_that_is_missed_says_why(bench):
    import goals

    def reached(goal, ms, x):
        """Of a layer whose multiply-adds take 1 ms at peak."""
        row = row_of("dropgemm", part="three products", batch=10, inputs=100, outputs=100, work=0.5,
                     ms=ms, x={"medium": x}, x_spread={"medium": 0.02})  # fmt: skip
        result = {"machine": {"threads": 2}, "rows": [row]}
        (bench / "layer.json").write_text(json.dumps(result))
        peaks = [
            {"run_name": f"{name}/threads:2/real_time", "run_type": "iteration", counter: 3e8}
            for name, counter in (("multiply_add", "FLOP/s"), ("read", "bytes/s"))
        ]
        (bench / "machine.json").write_text(json.dumps({"benchmarks": peaks}))
        made = goals.Goal("work", "layer", [{"batch": 10}], {"medium": (goal,)}, "Why.",
                          goals.products_work)  # fmt: skip
        (line,), why = goals.speedups(made)
        return line[3:], why

    assert reached(3, 2.0, 3.0) == (["3.00 (2 %)", "6.0", "yes"], "")
    assert reached(4, 2.0, 3.0) == (["3.00 (2 %)", "6.0", "0 of 1"], "Why.")
    line, why = reached(7, 2.0, 3.0)
    assert line == ["3.00 (2 %)", "6.0", "0 of 1"]
    assert "so near the peak" in why
    assert "Why." not in why
    with pytest.raises(ValueError, match=r"layer.json: expected one row of .*batch.*, got 0"):
        goals.speedups(goals.Goal("work", "layer", [{"batch": 11}], {"medium": (1,)}, "Why."))


LAYER_FILE = {"machine": {"cpu": "A"}, "rows": [
    row_of("dense", ms=2.0, spread=0.01, x={"medium": 1.0}),
    row_of("dropgemm", ms=1.0, spread=0.3, x={"medium": 2.0}, method="block"),
]}  # fmt: skip
GOOGLE_FILE = {"context": {"host_name": "A", "num_cpus": 2}, "benchmarks": [
    {"run_name": "once", "real_time": 3e6, "time_unit": "ns"},
    {"run_name": "often", "real_time": 9.0, "time_unit": "us"},
    {"run_name": "often", "real_time": 4.0, "time_unit": "us", "aggregate_name": "median"},
    {"run_name": "often", "real_time": 0.05, "time_unit": "us", "aggregate_name": "cv"},
    {"run_name": "failed", "error_occurred": True},
]}  # fmt: skip


def compared(folder, first, second):
    import compare

    for name, content in (("first.json", first), ("second.json", second)):
        (folder / name).write_text(json.dumps(content))
    compare.main([str(folder / "first.json"), str(folder / "second.json")])


def test_compare_says_ratio_and_spread_and_what_one_file_lacks(bench, capsys):
    faster = [
        row_of("dense", ms=1.0, spread=0.01, x={"medium": 2.0}),
        row_of("dropgemm", ms=0.9, spread=0.4, x={"medium": 2.1}, method="block"),
        row_of("stock", ms=5.0, spread=0.0, x={}),
    ]
    compared(bench, LAYER_FILE, {**LAYER_FILE, "rows": faster})
    dense, own, mean, only = capsys.readouterr().out.splitlines()
    assert re.match(
        r" 2\.000  \(  1%\) .* 1\.00 ->  2\.00 .* contender dense, part forward$", dense
    )
    assert re.match(r" 1\.111~ \( 50%\) .*method block$", own)
    assert re.match(r" 1\.491  geometric mean of 2$", mean)
    assert only.startswith("only in the second: ")
    assert only.endswith("contender stock, part forward")


def test_compare_reads_google_benchmark(bench, capsys):
    second = json.loads(json.dumps(GOOGLE_FILE).replace('"once"', '"new"'))
    second["benchmarks"][2]["real_time"] = 2.0
    second["context"]["host_name"] = "B"
    compared(bench, GOOGLE_FILE, second)
    machines, often, mean, *only = capsys.readouterr().out.splitlines()
    assert machines == "measured on two machines: A, 2 cores; B, 2 cores"
    assert often == " 2.000  (  7%)     0.0040 ->     0.0020 ms   often"
    assert mean == " 2.000  geometric mean of 1"
    assert only == ["only in the first: once", "only in the second: new"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (GOOGLE_FILE, "expected two files of one kind, got layers.py and google-benchmark"),
        ({"rows": []}, r"second.json: expected results of google-benchmark or of layers\.py"),
    ],
)
def test_compare_refuses_what_cannot_be_compared(bench, capsys, second, message):
    with pytest.raises(SystemExit) as error:
        compared(bench, LAYER_FILE, second)
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_compare_says_what_is_no_result(bench, capsys):
    import compare

    (bench / "words.md").write_text("# Words\n")
    for name, message in (("words.md", "expected a file of JSON, got"), ("none.json", "No such")):
        with pytest.raises(SystemExit):
            compare.main([str(bench / name)] * 2)
        assert f"{name}: {message}" in capsys.readouterr().err


LSTM = "--layers 1 --hidden 8 --batch 2 --length 3 --vocabulary 5 --seconds 0.01 --threads 1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--methods waltz", r"invalid choice: 'waltz' \(choose from .*row.*own:row.*units:row"),
        ("--hidden 0", r"--hidden: expected a whole number from 1 to 2\^20, got '0'"),
        ("--p 2", "--p: expected a rate from 0 to 0.99, got '2'"),
        ("--threads 0", r"--threads: expected a number of threads from 1 to \d+, .*got '0'"),
        ("", "lstm.json exists: pass --overwrite, or another --name"),
    ],
)
def test_lstm_refuses_before_it_measures(bench, capsys, arguments, message):
    import lstm

    (bench / "lstm.json").write_text("{}\n")
    with pytest.raises(SystemExit) as error:
        lstm.main([*LSTM.split(), *arguments.split()])
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert (bench / "lstm.json").read_text() == "{}\n"


def test_an_lstms_steps_are_measured_and_not_drawn(bench, capsys):
    import lstm
    import plots

    lstm.main([*LSTM.split(), "--methods", "row", "units:block"])
    rows = json.loads((bench / "lstm.json").read_text())["rows"]
    assert [(row["contender"], row.get("method")) for row in rows] == [
        ("stock", None), ("medium", None),
        ("dropgemm", "row"), ("dropgemm medium", "row"),
        ("dropgemm", "units:block"), ("dropgemm medium", "units:block"),
    ]  # fmt: skip
    # For each of 8 neurons: 32 weights of gates from the inputs, 32 from the state, 5 of words.
    assert [row["work"] for row in rows[2::2]] == [
        pytest.approx((32 / 2 + 32 + 5 / 2) / 69, abs=1e-4),
        pytest.approx((32 / 4 + 32 / 4 + 5 / 2) / 69, abs=1e-4),
    ]  # fmt: skip
    with pytest.raises(SystemExit):
        plots.main(["lstm"])
    assert "lstm: expected results of layers.py" in capsys.readouterr().err


def test_the_tables_of_the_readmes_are_those_of_the_results(bench, monkeypatch):
    import record
    import tables

    monkeypatch.setattr(record, "RESULTS", BENCH / "results")
    stale = [str(path.relative_to(tables.ROOT)) for path, _ in tables.differing()]
    assert not stale, "python bench/tables.py writes them anew"
    used = [
        match["name"]
        for name in tables.DOCUMENTS
        for match in tables.BLOCK.finditer((tables.ROOT / name).read_text())
    ]
    assert sorted(used) == sorted(tables.TABLES)


def test_a_table_is_made_anew_and_an_unknown_one_refused(bench, monkeypatch):
    import record
    import tables

    monkeypatch.setattr(record, "RESULTS", BENCH / "results")
    text = "a\n<!-- bench/tables.py: {0} -->\nold\n<!-- end of {0} -->\nb\n"
    made = tables.filled(text.format("table7"))
    assert "old" not in made
    assert made.startswith("a\n<!-- bench/tables.py: table7 -->\n\n| p | inputs dropped")
    assert made.endswith("\n\n<!-- end of table7 -->\nb\n")
    assert tables.filled(made) == made
    with pytest.raises(ValueError, match=r"table8: expected a table of .*table7"):
        tables.filled(text.format("table8"))


@pytest.mark.parametrize(
    "arguments",
    [
        "--set work --batch 8 16 --features 64 96",
        "--set step --hidden 32 --batch 16 --contenders stock medium dropgemm",
    ],
)
def test_a_plot_lies_beside_the_results_where_asked_for(bench, arguments):
    run_layers(f"{arguments} --name drawn")
    assert not (bench / "drawn.png").exists()
    run_layers(f"{arguments} --name drawn --overwrite --plot")
    assert (bench / "drawn.png").read_bytes().startswith(b"\x89PNG")
