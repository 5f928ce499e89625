"""Runs that are killed: the examples end with the weights that they would have had, to the bit."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent.parent / "python" / "examples"
SECONDS = 240  # for a run; one takes about 3 on an idle machine

# Arguments of a small run, the file that it ends with, and the keys of the weights therein.
RUNS = {
    "resume_plain.py": (["--steps", "160", "--every", "5"], "checkpoint.pt", "model"),
    "resume_lightning.py": (["--epochs", "20"], "last.ckpt", "state_dict"),
}


def start(name, folder):
    command = [sys.executable, str(EXAMPLES / name), "--folder", str(folder), *RUNS[name][0]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)


def finish(process):
    """What a run prints until its end."""
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0
    return output


def steps_of(output):
    return [int(line.split()[1][:-1]) for line in output.splitlines() if line.startswith("step ")]


def kill_at(name, folder, step):
    """Kills a run when it says that it is at a step; False where it was done by then."""
    process = start(name, folder)
    for line in process.stdout:
        if line.startswith(f"step {step}:"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(name, tmp_path):
    _, file, key = RUNS[name]
    whole = start(name, tmp_path / "whole")
    # Of a machine so busy that the kill came after the end, another try.
    for attempt in range(5):
        step = random.randrange(1, 120)
        folder = tmp_path / f"killed {attempt}"
        if kill_at(name, folder, step):
            break
    else:
        pytest.fail("kill: expected a run that is killed before its end, got none in 5")
    # Who is killed while writing leaves half a checkpoint, under another name.
    (folder / file).with_suffix(".partial").write_bytes(b"half")
    rest = finish(start(name, folder))
    steps, last = steps_of(rest), steps_of(finish(whole))[-1]
    assert steps == list(range(last + 1 - len(steps), last + 1)), f"killed at step {step}"

    expected, got = (torch.load(f / file, weights_only=True) for f in (tmp_path / "whole", folder))
    assert expected["dropout"] == got["dropout"]
    assert expected["dropout"]["step"] == last + 1
    for weight in expected[key]:
        assert torch.equal(got[key][weight], expected[key][weight]), f"killed at step {step}"
