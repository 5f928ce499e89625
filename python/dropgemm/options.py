"""Options of the command line, each of which says what it expects and what came instead.

They are refused while they are parsed, before anything is computed or written.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


class OptionError(Exception):
    """What is wrong with an option, as "--option: expected X, got Y".

    The command line prints it and exits with 2. No ValueError: argparse would put its own words
    in the place of these.
    """


def add_option(
    parser: argparse.ArgumentParser,
    name: str,
    parse: Callable[[str], object],
    expected: str,
    default: object,
    explanation: str,
    many: bool = False,
) -> None:
    """Adds an option; values for which `parse` raises ValueError are refused with `expected`.

    default: None for one that `explanation` tells. many: the option takes one value or several,
    and is parsed to a list.
    """

    def parse_or_refuse(text: str) -> object:
        try:
            return parse(text)
        except ValueError:
            raise OptionError(f"{name}: expected {expected}, got {text}") from None

    if default is not None:
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
        explanation += f" (default {shown})"
    parser.add_argument(
        name,
        type=parse_or_refuse,
        default=default,
        nargs="+" if many else None,
        metavar=name.strip("-").upper(),
        help=explanation,
    )


def add_integer(
    parser: argparse.ArgumentParser,
    name: str,
    default: int | Sequence[int] | None,
    explanation: str,
    low: int = 1,
    high: int = 1 << 31,
    many: bool = False,
) -> None:
    """Adds an option that takes an integer in [low, high)."""

    def parse(text: str) -> int:
        if not low <= int(text) < high:
            raise ValueError
        return int(text)

    end = f"2^{high.bit_length() - 1}" if high > 1 << 16 else str(high)
    add_option(
        parser, name, parse, f"an integer in [{low}, {end})", default, explanation, many=many
    )


def add_rate(parser: argparse.ArgumentParser, name: str, default: float, explanation: str) -> None:
    """Adds an option that takes a dropout rate in [0, 1)."""

    def parse(text: str) -> float:
        if not 0 <= float(text) < 1:
            raise ValueError
        return float(text)

    add_option(parser, name, parse, "a rate in [0, 1)", default, explanation)


def add_choice(
    parser: argparse.ArgumentParser,
    name: str,
    choices: Sequence[str],
    default: str | Sequence[str],
    explanation: str,
    many: bool = False,
) -> None:
    """Adds an option that takes one of a few words, or with `many` several of them."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    words = ", ".join(choices)
    add_option(
        parser, name, parse, f"one of {words}", default, f"{explanation}: {words}", many=many
    )


def add_picture(
    parser: argparse.ArgumentParser, name: str, default: str | None, explanation: str
) -> None:
    """Adds an option that takes the name of a picture to be written, parsed to a Path."""

    def parse(text: str) -> Path:
        path = Path(text)
        if not path.parent.is_dir() or path.is_dir():
            raise OptionError(f"{name}: expected a file in an existing folder, got {text}")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise OptionError(f"{name}: expected a file that can be written, got {text}")
        if path.suffix not in PICTURE_SUFFIXES:
            raise ValueError
        return path

    suffixes = ", ".join(PICTURE_SUFFIXES)
    expected = f"a name that ends in one of {suffixes}"
    add_option(parser, name, parse, expected, default, f"{explanation}: {suffixes}")
