"""`dropgemm show`: what is drawn, the files that are written, and what is refused."""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import dropgemm as dg
from dropgemm.__main__ import main
from dropgemm.plots.methods import METHODS, STEP, Draw, draw_mask
from dropgemm.plots.page import percent
from dropgemm.plots.show import PICTURES
from dropgemm.plots.work import LayerMasks
from dropgemm.plots.work import products as layer_products
from figures import assert_legible, show, words

SMALL = {
    "masks": "--batch 64 --features 64",
    "schedule": "--steps 6 --subnets 4 --coscheduled 2 --batch 8 --tile-rows 0 8",
    "tiles": "--out-features 64 --in-features 80 --period 2 --tile 16",
    "products": "--batch 128 --in-features 64 --out-features 96",
}


def images(figure, gid=None):
    panels = [axes for axes in figure.axes if axes.images and axes.get_gid() == gid]
    return [np.asarray(axes.images[0].get_array()) for axes in panels]


# --- Files -------------------------------------------------------------------------------------

FIRST_BYTES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}
LAST_BYTES = {".png": b"IEND\xaeB`\x82", ".svg": b"</svg>\n", ".pdf": b"%%EOF\n"}


def test_every_picture_is_tested():
    assert SMALL.keys() == PICTURES.keys()


@pytest.mark.parametrize("suffix", FIRST_BYTES)
@pytest.mark.parametrize("picture", SMALL)
def test_the_suffix_says_the_format_and_the_same_options_give_the_same_bytes(
    picture, suffix, tmp_path, capsys
):
    paths = [tmp_path / f"{name}{suffix}" for name in ("first", "second")]
    for path in paths:
        assert main(["show", picture, *SMALL[picture].split(), "--plot", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(FIRST_BYTES[suffix])
    assert first.endswith(LAST_BYTES[suffix])
    assert len(first) > 5000
    assert first == second


@pytest.mark.parametrize("options", [f"{name} {SMALL[name]}" for name in SMALL] + list(SMALL))
def test_nothing_is_written_over_anything_else(options, tmp_path, saved):
    assert show(options, tmp_path) == 0
    (figure,) = saved
    assert_legible(figure)


def test_the_users_matplotlib_is_left_alone(tmp_path, monkeypatch):
    import matplotlib

    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    assert main(["show", "products", "--plot", str(first)]) == 0
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30.0)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    assert main(["show", "products", "--plot", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.rcParams["font.size"] == 30.0


@pytest.mark.parametrize("picture", PICTURES)
def test_the_guide_names_every_option_with_its_default(picture):
    guide = Path(__file__).parents[2] / "python" / "README.md"
    (row,) = re.findall(rf"^\| `{picture}` \| (.*) \|$", guide.read_text(), re.MULTILINE)
    said = dict(re.findall(r"`(--[\w-]+)`(?: \(([^):;,]*))?", row))
    parser = argparse.ArgumentParser(add_help=False)
    PICTURES[picture].module.add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    assert said.keys() == {f"--{name.replace('_', '-')}" for name in defaults}
    for name, default in defaults.items():
        words = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        if default is not None:  # one that depends on other options
            assert said[f"--{name.replace('_', '-')}"] in ("", "all of them", words)


# --- Masks -------------------------------------------------------------------------------------


def test_the_masks_drawn_are_those_of_the_functional_api(tmp_path, saved):
    assert show("masks --methods block bernoulli gyro --p 0.25 --step 70 --seed 3", tmp_path) == 0
    block, bernoulli, gyro = images(saved[0])
    common = {"seed": 3, "site": 0}
    schedule = {"total_steps": 10_000, **common}
    expected = dg.GyroSchedule(256, 0.25, tile_rows=128, tile_cols=32, **schedule)
    np.testing.assert_array_equal(block, expected.mask(70, 256).to_dense())
    expected = dg.bernoulli_mask(256, 256, 0.25, step=70, **common)
    np.testing.assert_array_equal(bernoulli, expected.to_dense())
    np.testing.assert_array_equal(
        gyro, dg.GyroSchedule(256, 0.25, **schedule).mask(70, 256).to_dense()
    )
    for corner, mask in zip(images(saved[0], "magnified"), (bernoulli, gyro), strict=True):
        np.testing.assert_array_equal(corner, mask[:16, :16])


@pytest.mark.parametrize("step", [0, 3])
def test_patterns_are_drawn_from_the_distribution_of_the_rate(step, tmp_path, saved):
    assert show(f"masks --methods row tile --p 0.4 --step {step}", tmp_path) == 0
    row, tile = images(saved[0])
    distribution = dg.search_distribution(0.4, features=8)
    period, _ = distribution.sample(0, 0, step)
    np.testing.assert_array_equal(row, distribution.mask(0, 0, step, 256, 256)[0].to_dense())
    weights, _ = distribution.mask(0, 0, step, 256, 256, tile=(32, 32))
    np.testing.assert_array_equal(tile, weights.to_dense())
    said = words(saved[0])
    if period == 1:
        assert "Keeps every neuron, the same" in said
        assert "Keeps every tile of 32 x 32 weights" in said
    else:
        assert f"Keeps one of {period} neurons, the same" in said
        assert f"Keeps one of {period} tiles of 32 x 32 weights" in said
    left = [percent(keep.mean()).replace("\xa0", " ") for keep in (row, tile)]
    shares = re.findall(r"[\d.]+ %", said)
    assert shares == [*[left[0]] * 3, "40 %", *[left[1]] * 3, "40 %"]


def test_captions_say_what_is_drawn(tmp_path, saved):
    assert show("masks --methods block gyro --batch 200 --p 0.25", tmp_path) == 0
    said = words(saved[0])
    assert "p = 0.25" in said
    assert "2 groups of samples" in said  # of 128 and of 72
    assert "the same ones for 25 samples. 8 groups" in said
    assert re.findall(r"[\d.]+ %", said) == ["75 %"] * 3 + ["100 %"] * 3


# --- Work --------------------------------------------------------------------------------------


def brute_force(inputs, outputs, weights):
    """The share of multiply-adds x[m, k] w[n, k] of which nothing is dropped."""
    triples = inputs[:, None, :] & weights[None, :, :] & outputs[:, :, None]
    return triples.mean()


def test_work_is_counted_by_multiply_adds():
    rng = np.random.default_rng(0)
    b, i, o = 64, 96, 160
    tiles = {"inputs": (b, i), "outputs": (b, o), "weights": (o, i)}
    kept = {
        name: np.kron(rng.integers(0, 2, (rows // 32, cols // 32)), np.ones((32, 32))).astype(bool)
        for name, (rows, cols) in tiles.items()
    }
    given = {name: dg.TileMask.from_dense(keep, tile=(32, 32)) for name, keep in kept.items()}
    expected = brute_force(**kept)
    assert 0 < expected < 0.5
    found = layer_products(LayerMasks(b, i, o, **given))
    assert [product.name for product in found] == ["forward", "input gradient", "weight gradient"]
    for product in found:
        assert product.skips
        assert product.work == pytest.approx(expected, rel=1e-12)
    assert [product.depth_left.shape for product in found] == [(b, o), (b, i), (o, i)]
    forward = (kept["inputs"] @ kept["weights"].T.astype(float)) * kept["outputs"] / i
    np.testing.assert_allclose(found[0].depth_left, forward, rtol=1e-12)


def test_single_elements_skip_nothing():
    mask = dg.bernoulli_mask(64, 96, 0.5, seed=0, site=0)
    for product in layer_products(LayerMasks(64, 96, 32, inputs=mask)):
        assert not product.skips
        assert product.work == 1.0
    dense = layer_products(LayerMasks(64, 96, 32))
    assert [product.work for product in dense] == [1.0] * 3


def test_shares_are_said_shortly():
    assert [percent(share) for share in (1.0, 0.5, 0.125, 0.3333, 0.0)] == [
        "100\xa0%", "50\xa0%", "12.5\xa0%", "33.3\xa0%", "0\xa0%",
    ]  # fmt: skip


# --- Products ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_products_show_the_masks_and_what_they_leave(method, tmp_path, saved):
    sizes = 128, 64, 96
    options = "--batch 128 --in-features 64 --out-features 96 --seed 4"
    assert show(f"products --method {method} {options}", tmp_path) == 0
    draw = Draw(0.5, 4, STEP, 8)
    if method == "tile":
        given = LayerMasks(*sizes, weights=draw_mask(method, draw, 0, 96, 64).mask)
    else:
        given = LayerMasks(
            *sizes,
            inputs=draw_mask(method, draw, 0, 128, 64).mask,
            outputs=draw_mask(method, draw, 1, 128, 96).mask,
        )
    x, dz, w = (
        np.ones(shape, bool) if mask is None else mask.to_dense()
        for mask, shape in (
            (given.inputs, (128, 64)), (given.outputs, (128, 96)), (given.weights, (96, 64)),
        )
    )  # fmt: skip
    forward, inputs, weights = layer_products(given)
    _, *drawn = images(saved[0])  # the first is the legend's
    expected = [
        x, w.T, forward.depth_left, dz, w, inputs.depth_left, dz.T, x, weights.depth_left,
    ]  # fmt: skip
    for one, other in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    shares = [percent(product.work) for product in (forward, inputs, weights)]
    captions = " ".join(text.get_text() for text in saved[0].texts)
    assert re.findall(r"[\d.]+\xa0%", captions)[-3:] == shares


def test_one_side_leaves_half(tmp_path, saved):
    for side in ("input", "output"):
        assert show(f"products --sides {side}", tmp_path) == 0
        assert re.findall(r"\d+ %", words(saved[-1])) == ["50 %"] * 3
        assert f"dropout of its {side}s" in words(saved[-1])
    assert show("products", tmp_path) == 0
    assert images(saved[-1])[1].shape == (512, 384)
    assert re.findall(r"\d+ %", words(saved[-1])) == ["25 %"] * 3


# --- Tiles -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")  # the library's own warning of lines is not for this picture
def test_tiles_show_each_skew(tmp_path, saved):
    assert show("tiles", tmp_path) == 0
    skewed, linear = images(saved[0])
    np.testing.assert_array_equal(skewed, dg.TilePattern(4, 1).mask(256, 256).to_dense())
    assert (linear == linear[0]).all()
    assert linear[0].nonzero()[0].tolist() == [*range(32, 64), *range(160, 192)]
    said = words(saved[0])
    assert "(c + skew · r - 1) mod 4" in said
    aligned = "Every row of tiles keeps the same columns. 192 of 256 inputs take no part"
    other = "other columns are kept. Every input and every output still takes part."
    assert said.index('skew = "linear" (8)') > said.index("skew = 1")
    assert said.index(aligned) > said.index(other)
    assert re.findall(r"\d+ %", said) == ["25 %"] * 6
    for axes, keep in zip(saved[0].axes, (skewed, linear), strict=True):
        numbers = {text.get_position(): text.get_text() for text in axes.texts}
        assert len(numbers) == 64
        for (x, y), number in numbers.items():
            assert (number == "0") == keep[int(y), int(x)]


def test_ragged_tiles_are_counted_by_their_weights(tmp_path, saved):
    assert show("tiles --period 3 --offset 0 --skew 2 --in-features 240", tmp_path) == 0
    (kept,) = images(saved[0])
    assert kept.shape == (256, 240)
    share = percent(kept.mean()).replace("\xa0", " ")
    assert re.findall(r"[\d.]+ %", words(saved[0])) == [share] * 3
    assert saved[0].axes[0].texts[-1].get_position() == (232, 240)  # the middle of the last tile


# --- Options -----------------------------------------------------------------------------------

BAD_OPTIONS = {
    "masks --step -1": r"--step: expected an integer in \[0, 2\^32\), got -1",
    "masks --batch 0": r"--batch: expected an integer in \[1, 2049\), got 0",
    "masks --features 1e3": "--features: expected an integer in .*, got 1e3",
    "masks --p 1": r"--p: expected a rate in \[0, 1\), got 1",
    "masks --p nan": "--p: expected a rate in .*, got nan",
    "masks --methods gyro waltz": "--methods: expected one of bernoulli, gyro, block.*, got waltz",
    "masks --seed -1": r"--seed: expected an integer in \[0, 2\^63\), got -1",
    "masks --coscheduled none": "--coscheduled: expected an integer in .*, got none",
    "masks --features 64 --p 0.6": (
        r"--p: expected at most 0.5, which patterns of 2 tiles reach, got 0.6"
    ),
    "products --method row --in-features 1": "--p: expected at most 0, .* of 1 neuron .* got 0.5",
    "masks --plot picture.gif": "--plot: expected a name that ends in one of .png, .svg, .pdf, got",
    "masks --plot no/picture.png": "--plot: expected a file in an existing folder, got no/",
    "schedule --steps 8 --start 8": r"--start: expected a step below --steps \(8\), got 8",
    "schedule --tile-rows 4 -1": "--tile-rows: expected an integer in .*, got -1",
    "schedule --order backwards": "--order: expected one of consecutive, random, got backwards",
    "tiles --skew 1 x": "--skew: expected an integer or linear, got x",
    "tiles --skew 2": "--skew: expected an integer coprime to period 4, got 2",
    "tiles --offset 4": r"--offset: expected a number in \[0, 4\), the period, got 4",
    "tiles --period 9": "--period: expected at most the smaller of the mask's 8 tile rows .* got 9",
    "products --method tile --sides input": (
        "--sides: expected both for tile, which drops weights, got input"
    ),
    "products --sides top": "--sides: expected one of both, input, output, got top",
    "products --method waltz": "--method: expected one of .*, got waltz",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options_are_refused(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", *options.split()]) == 2
    printed = capsys.readouterr()
    assert re.fullmatch(f"dropgemm show: {BAD_OPTIONS[options]}.*\n", printed.err)
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert show("masks", tmp_path) == 2
    assert "--plot: expected a file that can be written, got" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("dropgemm.plots")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["show", "masks"]) == 1
    needs = r"dropgemm show needs matplotlib\S*: pip install 'dropgemm\[demo\]'\n"
    assert re.fullmatch(needs, capsys.readouterr().err)
    assert main(["info"]) == 0


@pytest.mark.parametrize("options", ["", "show"])
def test_help_lists_what_there_is(options, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*options.split(), "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for name in PICTURES if options else ("demo", "show", "info"):
        assert re.search(rf"^    {name} +\w", said, re.MULTILINE), said
