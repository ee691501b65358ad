"""Reads the command line, and turns every failure into one message and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipelines import UserError
from pipelines.cli import targets


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `python -m pipelines` and ends the process.

    Exits with 0; 1 after a run or a call that failed; 2 after a mistake of the caller; 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        sys.exit(_COMMANDS[arguments.command](arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except targets.ServiceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines", description="Compile, run and ask pipelines.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, help: str, target: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.add_argument("--pipeline", required=True, help="a module of pipelines/, such as crnn")
        if target:
            added.add_argument("--target", default="local", choices=sorted(targets.TARGETS), help="default: local")
        return added

    command("compile", "Write build/<pipeline>.json.", target=False)
    run = command("run", "Run a pipeline, watch it, and tell what came out.")
    run.add_argument("--data", default="", help="folder with your own data; default: the sample")
    run.add_argument("--args", default="", help='parameters that differ from the settings, such as "max_trials=2"')
    run.add_argument("--cache", default="1", choices=("0", "1"), help="0: run everything; default: 1")
    predict = command("predict", "Ask the deployed endpoint about what is in a file.")
    predict.add_argument("--input", required=True, help="a file such as word.png, or instances: .json, .jsonl, .csv")
    request = command("request", "Write requests to try the deployed endpoint with.")
    request.add_argument("--out", default="request.json", help="the file to write; default: request.json")
    scale = command("scale", "Train as the last run did on 1 and on 2 workers; compare time and cost.")
    scale.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="how many to compare; default: 1 2")
    command("lineage", "Print what the endpoint was made from, back to the source.")
    cancel = command("cancel", "Cancel an unfinished run.")
    cancel.add_argument("--run", required=True, help="the run's name, as `run` printed it")
    return parser


def _compile(arguments: argparse.Namespace) -> int:
    from pipelines.cli import compile

    print(compile.compiled(arguments.pipeline))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from pipelines.cli import run

    return run.run(
        pipeline=arguments.pipeline,
        target=targets.TARGETS[arguments.target],
        data=arguments.data,
        arguments=arguments.args,
        cache=arguments.cache == "1",
    )


def _predict(arguments: argparse.Namespace) -> int:
    from pipelines.cli import predict

    predict.predict(arguments.pipeline, targets.TARGETS[arguments.target], arguments.input)
    return 0


def _request(arguments: argparse.Namespace) -> int:
    from pipelines.cli import request

    request.request(arguments.pipeline, targets.TARGETS[arguments.target], arguments.out)
    return 0


def _scale(arguments: argparse.Namespace) -> int:
    from pipelines.cli import scale

    scale.scale(arguments.pipeline, targets.TARGETS[arguments.target], arguments.workers)
    return 0


def _lineage(arguments: argparse.Namespace) -> int:
    from pipelines.cli import lineage

    lineage.lineage(arguments.pipeline, targets.TARGETS[arguments.target])
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    from pipelines.cli import run

    run.cancel(arguments.pipeline, targets.TARGETS[arguments.target], arguments.run)
    return 0


_COMMANDS = {
    "compile": _compile,
    "run": _run,
    "predict": _predict,
    "request": _request,
    "scale": _scale,
    "lineage": _lineage,
    "cancel": _cancel,
}
