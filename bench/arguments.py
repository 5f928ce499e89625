"""Numbers of command lines: those outside their range are refused, with the range."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any


def number(kind: Callable[[str], Any], least: float, most: float, what: str) -> Any:
    """A type of argparse: numbers from least to most, which `what` says in words."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
        return value

    return parse


count = number(int, 1, 1 << 20, "a whole number from 1 to 2^20")
count_or_0 = number(int, 0, 1 << 20, "a whole number from 0 to 2^20")
rate = number(float, 0.0, 0.99, "a rate from 0 to 0.99")
CORES = os.cpu_count() or 1
THREADS = min(2, CORES)  # of the tables, where there are as many
threads = number(int, 1, CORES, f"a number of threads from 1 to {CORES}, the cores of this machine")
seconds = number(float, 0.01, 1e5, "seconds from 0.01 to 1e5")
