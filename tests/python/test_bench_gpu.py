"""The benchmarks of the CUDA backend: a GPU's sets, measured on the CPU by the same code, and on a
GPU where there is one. All but events and captures are seen in both."""

import json
import re
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

SETS = {
    "cuda_layer": "--batch 64 --features 96x64 --rows 16 --cols 8",
    "cuda_table7": "--batch 64 --features 64 --rows 16 --cols 8 --p .5",
    "cuda_papers": "--batch 64 --features 64 --rows 16 --cols 8 --period 2",
    "cuda_wide": "--batch 64 --features 64 --rows 16 --cols 8 --p .5",
    "cuda_step": "--batch 64 --hidden 64 --rows 16 --cols 8",
    "cuda_step_papers": "--batch 64 --hidden 64 --rows 16",
}
CONVENTIONAL = ["stock", "dropout", "compiled"]


@pytest.fixture
def measured(bench, monkeypatch):
    """Runs a set and says what it wrote; PyTorch traces functions and compiles nothing."""
    import conventional
    import layers

    monkeypatch.setattr(conventional, "COMPILER", "aot_eager")

    def run(name, text, status=0):
        limits = ["--seconds", "0.01", "--threads", "1", "--overwrite"]
        assert layers.main(["--set", name, *text.split(), *limits]) == status
        return json.loads((bench / f"{name}.json").read_text())

    return run


def test_the_sets_of_a_gpu_want_one(bench, capsys, monkeypatch):
    import layers
    import sets

    assert sets.SETS.keys() & SETS.keys() == SETS.keys()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, message in (
        ("", "--device: expected cpu, since PyTorch sees no GPU, got cuda"),
        ("--device cpu", "--launch: expected eager on the CPU, got graph"),
        ("--device tpu", r"--device: invalid choice: 'tpu' \(choose from .*cpu.*cuda"),
        ("--dtype int8", r"invalid choice: 'int8' \(choose from .*bfloat16"),
    ):
        with pytest.raises(SystemExit) as error:
            layers.main(["--set", "cuda_layer", *arguments.split()])
        assert error.value.code == 2
        assert re.search(message, capsys.readouterr().err)
    assert not list(bench.iterdir())


@pytest.mark.parametrize("name", SETS)
def test_every_set_of_a_gpu_is_measured_on_the_cpu(measured, name):
    result = measured(name, f"--device cpu --launch eager {SETS[name]}")
    assert "failed" not in result
    assert "gpu" not in result["machine"]
    rows = result["rows"]
    assert "bfloat16" in {row.get("dtype") for row in rows}
    assert not any("launch" in row for row in rows)
    own = [row for row in rows if row["contender"].startswith("dropgemm")]
    assert all({"stock", "compiled"} <= row["x"].keys() for row in own if "dtype" in row)
    assert {row["contender"] for row in rows} >= {"stock", "compiled"}


def test_a_layer_is_compared_with_all_who_drop_as_much(measured):
    text = "--batch 256 --features 256 --rows 32 --cols 8 --p .5 .75 --method block row"
    rows = measured("cuda_papers", f"--device cpu --launch eager {text}")["rows"]
    (own,) = (
        row for row in rows if row["contender"] == "dropgemm drawn" and row["part"] == "forward"
        and row.get("side") == "both" and row.get("p") == 0.75
    )  # fmt: skip
    assert own["x"].keys() == {*CONVENTIONAL, "index_select", "sparsedrop", "dense"}
    sparse = [row for row in rows if row["contender"] == "sparsedrop" and row["part"] == "forward"]
    blocks = [(row["side"], row["rows"], row["cols"], row["p"]) for row in sparse]
    assert blocks == [("input", 128, 128, 0.5), ("input", 128, 128, 0.75)]
    # Of two blocks a group keeps one, under either rate: keep_count leaves half of the inputs.
    assert [row["work"] for row in sparse] == [0.5, 0.5]


def test_groups_of_rows_have_subnets_of_their_own_where_asked_for(bench):
    import cases
    import dropped

    drop = cases.Drop("block", "input", 0.5, rows=8, cols=8, coscheduled=0)
    layer = cases.Layer(8 * 32, 256, 64, (drop,), cases.PRODUCTS, ())
    ((_, masks),) = dropped.draw(layer, drop)
    assert len(masks.inputs.to_dense()[::8].unique(dim=0)) > 16  # of 32 groups
    ((_, masks),) = dropped.draw(layer, cases.replace(drop, coscheduled=8))
    assert len(masks.inputs.to_dense()[::8].unique(dim=0)) == 8


@pytest.mark.parametrize("fused", [False, True])
def test_pytorchs_dropout_is_computed(bench, monkeypatch, fused):
    import cases
    import conventional
    import products

    monkeypatch.setattr(conventional, "COMPILER", "aot_eager")
    layer = cases.Layer(16, 64, 48, (), cases.PRODUCTS, ())
    on = products.Operands(layer)
    runs = conventional.products(on, fused=fused)
    y, kept = runs["forward"]()
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(y, 2 * kept * (on.x @ on.w.t()))
    dx, wanted = runs["input gradient"](), 2 * (on.dz @ on.w)
    dropped = dx == 0
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(dx, torch.where(dropped, 0, wanted))
    runs["weight gradient"]()
    torch.testing.assert_close(on.dw, on.dz.t() @ on.x)


@pytest.mark.parametrize("method", ["block", "row", "tile"])
@pytest.mark.parametrize("side", ["both", "input", "output"])
def test_a_forward_that_draws_uses_what_it_drew(bench, method, side):
    import cases
    import dropped
    import products

    drop = cases.Drop(method, side, 0.5, 8, 16, 2, "")
    layer = cases.Layer(24, 128, 96, (drop,), cases.PRODUCTS, ())
    ((_, masks),) = dropped.draw(layer, drop)
    draw = dropped.drawing(layer, drop, torch.device("cpu"))
    on = products.Operands(layer)
    on.y.fill_(torch.nan)
    products.KINDS["dropgemm drawn"].make(on, masks, draw)["forward"]()
    inputs, outputs, weight = (
        1 if m is None else m.to_dense().float() for m in masks.with_drawn(draw())
    )
    wanted = 2 * ((on.x * inputs) @ (on.w * weight).t()) * outputs
    torch.testing.assert_close(on.y, wanted, rtol=0, atol=2e-4)


class Cuda:
    """What of torch.cuda a device's clock needs, which notes who is called, in order."""

    def __init__(self):
        self.calls = []

    def note(self, name, result=None):
        return lambda *_, **__: self.calls.append(name) or result

    def event(self, name):
        return SimpleNamespace(
            record=self.note(f"{name}.record"), synchronize=self.note(f"{name}.synchronize"),
            elapsed_time=self.note("elapsed", 3.0),
        )  # fmt: skip

    def graph(self):
        return SimpleNamespace(replay=self.note("replay"))

    @contextmanager
    def capture(self, graph):
        self.calls.append("capture")
        yield
        self.calls.append("captured")

    def replace(self, monkeypatch):
        about = SimpleNamespace(name="a GPU", major=9, minor=0, L2_cache_size=100, uuid="12-34")
        events = iter([self.event("begin"), self.event("end")])
        for name, value in {
            "is_available": lambda: True, "current_device": lambda: 0,
            "get_device_properties": lambda _: about, "Event": lambda **_: next(events),
            "Stream": lambda: "aside", "current_stream": lambda: "current",
            "stream": lambda _: nullcontext(), "synchronize": self.note("synchronize"),
            "CUDAGraph": self.graph, "graph": self.capture,
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)


def test_events_enclose_the_run_alone_and_a_replay_a_captured_one(bench, monkeypatch):
    import hardware

    cuda = Cuda()
    cuda.replace(monkeypatch)
    monkeypatch.setattr(hardware.Gpu, "place", "cpu")
    gpu = hardware.Gpu()
    monkeypatch.setattr(gpu, "_flushed", SimpleNamespace(zero_=cuda.note("flush")))
    work = cuda.note("work")
    assert gpu.prepared(work, graph=False) is work
    warm = ["synchronize", "work", "work", "work", "synchronize"]
    assert cuda.calls == warm
    cuda.calls.clear()
    replay = gpu.prepared(work, graph=True)
    assert cuda.calls == [*warm, "capture", "work", "captured", "replay", "synchronize"]
    cuda.calls.clear()
    assert gpu.seconds(replay) == 3e-3
    assert cuda.calls == [
        "flush", "begin.record", "replay", "end.record", "end.synchronize", "elapsed",
    ]  # fmt: skip


def test_a_gpu_is_described_with_its_clocks(bench, monkeypatch):
    import hardware

    Cuda().replace(monkeypatch)
    monkeypatch.setattr(hardware.Gpu, "place", "cpu")
    gpu = hardware.Gpu()
    asked = []

    def told(command, **_):
        asked.append(command)
        return SimpleNamespace(stdout="580.1, 1980, 1980, 3201, 700.00, 41\n")

    monkeypatch.setattr(hardware.subprocess, "run", told)
    found = gpu.describe()
    assert found["gpu"] == "a GPU"
    assert (found["capability"], found["driver"], found["sm_clock_mhz"]) == ("9.0", "580.1", "1980")
    assert "--id=GPU-12-34" in asked[0]

    def fails(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(hardware.subprocess, "run", fails)
    assert gpu.describe().keys() == {"gpu", "capability", "cuda"}


class Half:
    """A device on which graphs are the runs themselves, and whoever needs the compiler fails."""

    place = "cpu"
    replays = True

    def prepared(self, run, *, graph):
        assert graph
        run()
        return run

    def seconds(self, run):
        run()
        return 1e-3

    def describe(self):
        return {"gpu": "half a GPU", "driver": "1"}


def test_who_fails_is_left_out_and_said(measured, bench, capsys, monkeypatch):
    import conventional
    import hardware

    def broken(function):
        def call(*_):
            raise RuntimeError("no compiler here\nand more of it")

        return call

    monkeypatch.setitem(hardware.DEVICES, "cuda", Half)
    monkeypatch.setattr(conventional, "compiled", broken)
    text = "--launch graph --batch 16 32 --features 64 --rows 8 --cols 8 --p .5"
    result = measured("cuda_wide", text, status=1)
    assert result["machine"]["gpu"] == "half a GPU"
    failed = [
        f"layer 64 x 64, batch {batch}, bfloat16, replayed from a graph: compiled: no compiler here"
        for batch in (16, 32)
    ]
    assert result["failed"] == failed
    assert [f"failed: {line}" for line in failed] == [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")
    ]
    assert "compiled" not in {row["contender"] for row in result["rows"]}
    assert {row["launch"] for row in result["rows"]} == {"graph"}
    assert {row["ms"] for row in result["rows"]} == {1.0, 3.0}


def test_a_case_that_breaks_ends_alone(measured, monkeypatch):
    import hardware

    class Spoilt(Half):
        def seconds(self, run):
            raise RuntimeError("an illegal address")

    monkeypatch.setitem(hardware.DEVICES, "cuda", Spoilt)
    text = "--launch graph --batch 16 32 --features 64 --rows 8 --cols 8 --contenders stock"
    result = measured("cuda_wide", text, status=1)
    assert result["rows"] == []
    assert [line.partition(": ")[2] for line in result["failed"]] == ["an illegal address"] * 2


def test_goals_are_goals_until_a_gpu_has_run(bench):
    import gpu_goals

    goal, *_ = gpu_goals.GOALS
    rows = [{**values, "x": {"compiled": 3.5 - i}, "x_spread": {"compiled": 0.02}, "ms": 1.0}
            for i, values in enumerate(goal.rows)]  # fmt: skip
    machine = {"cpu": "a processor", "date": "2026-11-21", "commit": "abc", "uncommitted": False}

    def line(rows, **more):
        content = {"machine": machine | more, "rows": rows}
        (bench / f"{goal.results}.json").write_text(json.dumps(content))
        lines = gpu_goals.table().splitlines()
        return lines[2].split(" | ")[2:], lines[-1]

    assert gpu_goals.table().endswith("None of this has run on a GPU yet.\n")
    gpu = {"gpu": "NVIDIA H200", "driver": "580.1"}
    assert line(rows)[0] == ["3", "not yet measured", " |"]  # the CPU's count not
    figures, source = line(rows, **gpu)
    assert figures == ["3", "3.50 / 2.50 (2 %)", "1 of 2 |"]
    assert source == "`cuda_layer.json`: NVIDIA H200, driver 580.1, 2026-11-21, commit abc."
    assert line(rows[:1], **gpu)[0] == ["3", "3.50 (2 %), eager alone", "yes |"]
    assert line(rows[1:], **gpu)[0] == ["3", "2.50 (2 %), graph alone", "0 of 1 |"]
    assert line([], **gpu)[0] == ["3", "failed", " |"]


def test_every_goal_is_among_what_its_set_measures(bench):
    import gpu_goals
    import products
    from cases import Layer, merged
    from sets import SETS

    for goal in gpu_goals.GOALS:
        found = []
        for case in merged(case for axes in SETS[goal.results].axes for case in axes.cases()):
            drops = case.drops if isinstance(case, Layer) else [None]
            for name in case.contenders:
                pruned = isinstance(case, Layer) and products.KINDS[name].pruned
                for drop in drops if pruned else [None]:
                    axes = {} if drop is None else drop.axes()
                    found.append({**case.shape(), "contender": name, **axes})
        for wanted in goal.rows:
            wanted = {key: value for key, value in wanted.items() if key != "part"}
            same = [row for row in found if all(row.get(k) == v for k, v in wanted.items())]
            assert len(same) == 1, (goal.work, wanted, len(same))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch sees")
@pytest.mark.parametrize("name", SETS)
def test_every_set_of_a_gpu_is_measured_there(bench, name):
    import layers

    limits = "--contenders stock dropgemm --seconds 0.1"
    assert layers.main(["--set", name, *SETS[name].split(), *limits.split()]) == 0
    result = json.loads((bench / f"{name}.json").read_text())
    assert result["machine"]["gpu"] == torch.cuda.get_device_name()
    replayed = set() if name == "cuda_wide" else {"graph"}
    assert {row.get("launch") for row in result["rows"]} == {None, *replayed}
    assert all(row["ms"] > 0 for row in result["rows"])
