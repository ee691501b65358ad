"""Reads the command line, and turns every failure into one message and an exit code."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipelines import UserError
from pipelines.cli import targets


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs `python -m pipelines` and ends the process.

    Exits with 0; 1 after a run or a call that failed; 2 after a mistake of the caller; 130 after Ctrl-C;
    143 when ended from outside.
    """
    # So that what is put aside meanwhile, such as a build's secrets, does not stay.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
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

    def command(name: str, help: str, target: bool = True, pipeline: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        if pipeline:
            added.add_argument("--pipeline", required=True, help="a module of pipelines/, such as crnn")
        if target:
            added.add_argument("--target", default="local", choices=sorted(targets.TARGETS), help="default: local")
        return added

    command("compile", "Write build/<pipeline>.json.", target=False)
    run = command("run", "Run a pipeline, watch it, and tell what came out.")
    run.add_argument("--data", default="", help="folder with your own data; default: the sample")
    run.add_argument("--args", default="", help='parameters that differ from the settings, such as "max_trials=2"')
    run.add_argument("--accelerator", default="", help="what to train on: cpu, gpu, tpu, or two such as gpu,tpu")
    run.add_argument("--cache", default="1", choices=("0", "1"), help="0: run everything; default: 1")
    run.add_argument("--builder", default="docker", choices=("docker", "cloud"), help="of images the registry lacks")
    run.add_argument("--dirty", action="store_true", help="push images of what is not committed, too")
    predict = command("predict", "Ask the deployed endpoint about what is in a file.")
    predict.add_argument("--input", required=True, help="a file such as word.png, or instances: .json, .jsonl, .csv")
    request = command("request", "Write requests to try the deployed endpoint with.")
    request.add_argument("--out", default="request.json", help="the file to write; default: request.json")
    scale = command("scale", "Train as the last run did on 1 and on 2 workers; compare time and cost.")
    scale.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="how many to compare; default: 1 2")
    command("rollback", "Go back to the version that served before.")
    logs = command("logs", "Print the last lines that a task of a run has printed.", pipeline=False)
    logs.add_argument("--run", required=True, help="the run's name, as `run` printed it")
    logs.add_argument("--task", required=True, help="the task's path in the run, such as exit-handler-1.train")
    logs.add_argument("--count", type=int, default=100, help="how many lines at most; default: 100")
    command("lineage", "Print what the endpoint was made from, back to the source.")
    schedule = command("schedule", "Bring the schedules of the settings to the service.")
    schedule.add_argument("--plan", action="store_true", help="only print what is to be done")
    command("schedules", "List all schedules with their next and last runs.", pipeline=False)
    cost = command("cost", "Estimate device-hours and cost of a run.")
    cost.add_argument("--args", default="", help='parameters that differ from the settings, such as "max_trials=2"')
    prune = command("prune", "Remove what is older than the settings keep and nothing in use leans on.")
    prune.add_argument("--plan", action="store_true", help="only print what is to be removed")
    images = command("images", "Build the container images that are missing.", target=False, pipeline=False)
    images.add_argument("--image", default="", help="one of them; default: all")
    images.add_argument("--device", default="cpu", choices=("cpu", "gpu", "tpu"), help="of the trainer; default: cpu")
    images.add_argument("--push", action="store_true", help="push what the registry lacks")
    images.add_argument("--dirty", action="store_true", help="push what is not committed, too")
    command("audit", "Look for known vulnerabilities in what the images hold.", target=False, pipeline=False)
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
        builder=arguments.builder,
        dirty=arguments.dirty,
        accelerators=arguments.accelerator,
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


def _rollback(arguments: argparse.Namespace) -> int:
    from pipelines.cli import rollback

    return rollback.rollback(arguments.pipeline, targets.TARGETS[arguments.target])


def _logs(arguments: argparse.Namespace) -> int:
    from pipelines.cli import logs

    return logs.logs(targets.TARGETS[arguments.target], arguments.run, arguments.task, arguments.count)


def _lineage(arguments: argparse.Namespace) -> int:
    from pipelines.cli import lineage

    lineage.lineage(arguments.pipeline, targets.TARGETS[arguments.target])
    return 0


def _schedule(arguments: argparse.Namespace) -> int:
    from pipelines.cli import schedule

    schedule.schedule(arguments.pipeline, targets.TARGETS[arguments.target], arguments.plan)
    return 0


def _schedules(arguments: argparse.Namespace) -> int:
    from pipelines.cli import schedule

    schedule.schedules(targets.TARGETS[arguments.target])
    return 0


def _cost(arguments: argparse.Namespace) -> int:
    from pipelines.cli import cost

    cost.cost(arguments.pipeline, targets.TARGETS[arguments.target], arguments.args)
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from pipelines.cli import prune

    prune.prune(arguments.pipeline, targets.TARGETS[arguments.target], arguments.plan)
    return 0


def _images(arguments: argparse.Namespace) -> int:
    from pipelines.cli import images

    return images.images(arguments.image, arguments.device, arguments.push, arguments.dirty)


def _audit(arguments: argparse.Namespace) -> int:
    from pipelines.cli import audit

    return audit.audit()


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
    "rollback": _rollback,
    "logs": _logs,
    "lineage": _lineage,
    "schedule": _schedule,
    "schedules": _schedules,
    "cost": _cost,
    "prune": _prune,
    "images": _images,
    "audit": _audit,
    "cancel": _cancel,
}
