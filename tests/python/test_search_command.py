"""`dropgemm search`: the table, the picture, and what is refused."""

import re
import sys

import numpy as np
import pytest

import dropgemm as dg
from dropgemm.__main__ import main
from dropgemm.plots import distribution
from figures import assert_legible, words


def search(options, capsys):
    assert main(["search", *options.split()]) == 0
    return capsys.readouterr().out


# --- The table -----------------------------------------------------------------------------------


def numbers(line):
    return [float(x) for x in re.findall(r"(?<![\w/.])\d+\.\d+(?:e-?\d+)?", line)]


def test_the_table_shows_both_distributions(capsys):
    printed = search("--p 0.5", capsys)
    found, exact = dg.search_distribution(0.5), dg.search_distribution(0.5, method="exact")
    lines = printed.splitlines()
    assert lines[0] == "p = 0.5, periods 1 to 8"
    assert lines[2].split() == ["period", "keeps", "sgd", "exact"]
    for period, line in enumerate(lines[3:11], 1):
        assert line.split()[:2] == [str(period), "all" if period == 1 else f"1/{period}"]
        expected = 100 * found.probabilities[period - 1], 100 * exact.probabilities[period - 1]
        assert numbers(line) == pytest.approx(expected, abs=5.1e-4)
    for line, one in zip(lines[13:15], (found, exact), strict=True):
        name, rate, entropy, iterations, milliseconds = line.split()
        assert name == ("sgd" if one is found else "exact")
        assert float(rate) == pytest.approx(one.rate, abs=5.1e-7)
        assert float(entropy) == pytest.approx(one.entropy, abs=5.1e-5)
        assert int(iterations) == one.iterations
        assert float(milliseconds) >= 0
    off = abs(found.probabilities - exact.probabilities).sum()
    assert numbers(lines[16]) == pytest.approx([off], rel=0.05)


def test_many_periods_are_summed_up_in_ranges(capsys):
    lines = search("--p 0.9 --max-period 40", capsys).splitlines()
    rows = [re.split(r" {2,}", line.strip()) for line in lines[3 : lines.index("", 3)]]
    assert [row[0] for row in rows] == [*map(str, range(1, 9)), "9 to 16", "17 to 32", "33 to 40"]
    assert [row[1] for row in rows[-3:]] == ["1/9 to 1/16", "1/17 to 1/32", "1/33 to 1/40"]
    for column in (2, 3):
        assert sum(float(row[column].split()[0]) for row in rows) == pytest.approx(100, abs=0.01)


def test_the_paper_to_the_letter_and_the_exact_method(capsys):
    letter = search("--p 0.5 --no-anneal", capsys)
    assert re.search(r"^ +sgd +0\.564\d+ ", letter, re.MULTILINE)
    alone = search("--p 0.5 --method exact", capsys)
    assert alone.splitlines()[2].split() == ["period", "keeps", "exact"]
    assert "sgd" not in alone
    narrow = search("--p 0.6 --method narrow", capsys).splitlines()
    assert narrow[0] == "p = 0.6, periods 1 to 8"
    assert narrow[2].split() == ["period", "keeps", "narrow", "exact"]
    drawn = [numbers(line)[0] for line in narrow[3:11]]
    assert drawn == pytest.approx([0, 40, 60, 0, 0, 0, 0, 0])
    assert "period 1 alone" in search("--p 0", capsys)
    assert "periods 1 to 5" in search("--p 0.5 --features 5", capsys)


# --- The picture ---------------------------------------------------------------------------------

FIRST_BYTES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.parametrize("suffix", FIRST_BYTES)
def test_the_suffix_says_the_format_and_the_same_options_give_the_same_bytes(
    suffix, tmp_path, capsys
):
    paths = [tmp_path / f"{name}{suffix}" for name in ("first", "second")]
    for path in paths:
        assert search(f"--p 0.5 --plot {path}", capsys).endswith(f"\n\n{path}\n")
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(FIRST_BYTES[suffix])
    assert len(first) > 5000
    assert first == second


@pytest.mark.parametrize(
    "options",
    ["--p 0.5", "--p 0.9 --max-period 48", "--p 0.7 --max-period 64", "--p 0.95 --max-period 1024",
     "--p 0.5 --no-anneal", "--p 0.8749 --max-period 8", "--p 0.4 --max-period 300 --no-anneal",
     "--p 0.3 --method exact", "--p 0.6 --method narrow", "--p 0.99 --method narrow",
     "--p 0 --max-period 3", "--p 0", "--p 0.5 --max-period 2"],
)  # fmt: skip
def test_nothing_is_written_over_anything_else(options, capsys, saved):
    search(f"{options} --plot picture.png", capsys)
    assert_legible(saved[0])


def test_the_bars_are_the_distributions(capsys, saved):
    search("--p 0.6 --max-period 12 --plot picture.png", capsys)
    bars, _, _ = saved[0].axes
    heights = [[patch.get_height() for patch in container] for container in bars.containers]
    found = dg.search_distribution(0.6, 12)
    exact = dg.search_distribution(0.6, 12, "exact")
    np.testing.assert_allclose(heights[0], 100 * found.probabilities)
    np.testing.assert_allclose(heights[1], 100 * exact.probabilities)
    search("--p 0.6 --max-period 100 --plot picture.png", capsys)
    steps = [patch.get_data().values for patch in saved[1].axes[0].patches]
    found = dg.search_distribution(0.6, 100)
    np.testing.assert_allclose(steps[0], 100 * found.probabilities)
    np.testing.assert_allclose(steps[1], steps[0], atol=0.02)
    search("--p 0.6 --method exact --plot picture.png", capsys)
    assert len(saved[2].axes) == 1  # nothing descends


@pytest.mark.parametrize("anneal", [True, False])
def test_the_curves_are_those_of_the_descent(anneal, capsys, saved):
    found = dg.search_distribution(0.3, 16, anneal=anneal)
    search(f"--p 0.3 --max-period 16 {'' if anneal else '--no-anneal'} --plot picture.png", capsys)
    _, loss, rate = saved[0].axes
    assert loss.get_yscale() == rate.get_yscale() == "log"
    (curve, limit) = rate.lines
    np.testing.assert_allclose(curve.get_ydata(), abs(found.rates - 0.3))
    assert set(limit.get_ydata()) == {1e-3}
    # Within a stage: what is left of the loss to its end.
    stages = distribution.stages(found)
    assert len(loss.lines) == len(stages) == len(set(found.weights))
    assert stages[0][0] == 0
    assert stages[-1][1] == found.iterations
    for line, (first, last) in zip(loss.lines, stages, strict=True):
        recorded = found.losses[first + 1 : last] - found.losses[last]
        recorded = recorded[recorded > 0]
        np.testing.assert_allclose(line.get_ydata()[1:], recorded, rtol=1e-3, atol=1e-17)
        assert line.get_xdata()[0] == first
        assert (np.diff(line.get_ydata()) <= 0).all()


def test_words_say_what_is_drawn(capsys, saved):
    search("--p 0.5 --plot picture.png", capsys)
    said = words(saved[0])
    assert "to drop 50 % of the neurons" in said
    assert "It drops 50.001 % on average, with an entropy of 1.943 nats (all 8 periods" in said
    assert "would have 2.079 and drop 66 %" in said
    assert "found by descent exact" in said
    assert "λ₂ falls by ten" in said
    search("--p 0.5 --no-anneal --plot picture.png", capsys)
    said = words(saved[1])
    assert "It drops 56.429 % on average, not 50 %" in said
    assert "λ₂ stays as it was printed" in said
    search("--p 0.5 --method exact --plot picture.png", capsys)
    said = words(saved[2])
    assert "Of all that drop 50 % this one has the largest entropy." in said
    assert "descent" not in said
    search("--p 0.6 --method narrow --plot picture.png", capsys)
    said = words(saved[3])
    assert "narrow exact" in said
    assert "as few periods as can be are drawn" in said
    assert "the exact distribution has the largest entropy, 2.058" in said


# --- Options -------------------------------------------------------------------------------------

BAD_OPTIONS = {
    "--p 1": r"--p: expected a rate in \[0, 1\), got 1",
    "--p nan": "--p: expected a rate in .*, got nan",
    "--p 0.9999999": "--p: expected a dropout rate that periods of up to 1048576 reach",
    "--max-period 0": r"--max-period: expected an integer in \[1, 2\^31\), got 0",
    "--max-period 2000000": r"--max-period: expected a number in \[1, 1048576\], got 2000000",
    "--p 0.9 --max-period 9": "--max-period: expected at least 10, the least max_period that drops "
    "at 0.9, got 9, which drops at 0.888888889 at most",
    "--p 0.9 --features 9": "--features: expected at least 10, the least max_period that drops",
    "--max-period 9 --features 8": "--max-period: expected at most features, 8, got 9",
    "--method adam": "--method: expected one of sgd, exact, narrow, got adam",
    "--method narrow --no-anneal": "--no-anneal: expected --method sgd beside it, got narrow",
    "--plot picture.gif": "--plot: expected a name that ends in one of .png, .svg, .pdf, got",
    "--plot nowhere/picture.png": "--plot: expected a file in an existing folder, got nowhere",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_options_are_refused(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", *options.split()]) == 2
    printed = capsys.readouterr()
    assert re.fullmatch(f"dropgemm search: {BAD_OPTIONS[options]}.*\n", printed.err)
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_only_the_picture_needs_matplotlib(monkeypatch, capsys, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("dropgemm.plots")]:
        monkeypatch.delitem(sys.modules, name)
    assert "periods 1 to 8" in search("", capsys)
    assert main(["search", "--plot", str(tmp_path / "picture.png")]) == 1
    printed = capsys.readouterr()
    needs = r"dropgemm search needs matplotlib\S*: pip install 'dropgemm\[demo\]'\n"
    assert re.fullmatch(needs, printed.err)
    assert not printed.out


def test_help_says_what_an_option_left_out_means(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["search", "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "by default max(8, 2 / (1 - p)), rounded up" in said
    assert "(default 0.5)" in said
    assert "None" not in said
