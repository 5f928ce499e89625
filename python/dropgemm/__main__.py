"""The command line: `dropgemm demo`, `dropgemm info` (also `python -m dropgemm`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="dropgemm", description="Dropout that makes the GEMM smaller."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser(
        "demo", help="train on Fashion-MNIST with conventional, block-wise gyro and gyro dropout"
    )
    commands.add_parser("info", help="print versions, backends, CPU features, OpenMP runtimes")
    if arguments[:1] == ["demo"]:
        # Its options need packages that `info` does without.
        from dropgemm import demo

        demo.add_arguments(demo_parser)
        return int(demo.run(parser.parse_args(arguments)) or 0)
    parser.parse_args(arguments)
    from dropgemm.info import info_lines

    for line in info_lines():
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
