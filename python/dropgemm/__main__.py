"""The command line: `dropgemm COMMAND`, also `python -m dropgemm COMMAND`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from dropgemm.options import OptionError


class Command(NamedTuple):
    """A subcommand: its module has `add_arguments(parser)` and `run(args) -> exit status`.

    It is imported only where the command is the one asked for, so that no command needs the
    packages of another.
    """

    module: str
    help: str


COMMANDS = {
    "demo": Command(
        "dropgemm.demo",
        "train on Fashion-MNIST with conventional dropout and with each pruned method",
    ),
    "search": Command(
        "dropgemm.plots.search", "how often to draw which pattern, so that a rate is met"
    ),
    "show": Command("dropgemm.plots.show", "draw masks, schedules and what they leave of products"),
    "info": Command("dropgemm.info", "print versions, backends, CPU features, OpenMP runtimes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status: 1 for a missing package, 2 for bad options."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="dropgemm", description="Dropout that makes the GEMM smaller."
    )
    subparsers = parser.add_subparsers(dest="command", metavar="command", required=True)
    parsers = {
        name: subparsers.add_parser(name, help=command.help, description=command.help)
        for name, command in COMMANDS.items()
    }
    name = arguments[0] if arguments else ""
    if name not in COMMANDS:
        parser.parse_args(arguments)  # prints help or an error, and exits
        return 2
    try:
        command: Any = importlib.import_module(COMMANDS[name].module)
        command.add_arguments(parsers[name])
        status = int(command.run(parser.parse_args(arguments)))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads the output, `head` say, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OptionError as error:
        print(f"dropgemm {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "dropgemm":
            raise
        print(f"dropgemm {name} needs {error.name}: pip install 'dropgemm[demo]'", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
