"""The parser, and how errors become exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from localvertex import daemon
from localvertex.cli import console, inspection, server, submission
from localvertex.cli.common import DONE, INTERRUPTED, MISTAKE, CommandError
from localvertex.home import Home


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments, those of the process by default.

    Returns:
        The exit code: 0; 1 when `status` finds no server or a run has failed; 2 after an error; 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    home = Home.find()
    if arguments.home:
        home = replace(home, path=arguments.home)
    try:
        code: int = arguments.run(home, arguments)
        sys.stdout.flush()
    except (CommandError, daemon.DaemonError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:
        # What reads the output has ended; Python would complain once more when it flushes on exit.
        sys.stdout = None
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--home", type=Path, help="state folder (default: $LOCALVERTEX_HOME, else .localvertex here)")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="localvertex", description="Vertex AI on localhost.")
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(
        name: str,
        run: Callable[[Home, argparse.Namespace], int],
        text: str,
        *,
        json: bool = True,
        details: str = "",
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=text,
            description=f"{text} {details}".strip(),
            parents=[shared, as_json] if json else [shared],
        )
        added.set_defaults(run=run)
        return added

    server.add_commands(add)
    submission.add_commands(add)
    inspection.add_commands(add)
    console.add_commands(add)
    return parser
