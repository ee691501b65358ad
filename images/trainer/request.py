"""Requests to try an endpoint with: test examples as a client sends them.

    python -m images.trainer.request --system=mnist --examples=FOLDER --out=request.json

Where the system's first clients sent another form than today's, it is theirs: of a digit `{"inputs": [784 numbers]}`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import UserError
from images.trainer import roles

SAMPLES = "samples.jsonl"
BODY = ".instances.json"


def request(system: str, examples: str, out: str, count: int = 10) -> tuple[Path, Path]:
    """Writes two files.

    Args:
        system: such as "mnist".
        examples: the folder that ingest wrote.
        out: the first file: an instance a line, as batch prediction reads it.
        count: of instances, at most.

    Returns:
        The first file, and the second: the same as the body of one request, `{"instances": […]}`, as
        `gcloud ai endpoints predict --json-request` sends it. It is named as the first, ending in `.instances.json`.

    Raises:
        UserError: there are no such system or samples.
    """
    classic = getattr(roles.load(system, "data"), "classic_instance", dict)
    instances = [classic(sample) for sample in _samples(examples)[:count]]
    lines = Path(out)
    body = lines.with_name(lines.stem + BODY)
    with executor.whole(lines) as aside:
        aside.write_text("".join(json.dumps(instance) + "\n" for instance in instances), encoding="utf-8")
    with executor.whole(body) as aside:
        aside.write_text(json.dumps({"instances": instances}) + "\n", encoding="utf-8")
    return lines, body


def _samples(examples: str) -> list[dict[str, Any]]:
    """The samples without their labels, which are not sent."""
    try:
        lines = (Path(examples) / SAMPLES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"--examples={examples}: no {SAMPLES} there; give the folder that ingest wrote") from None
    samples = [json.loads(line) for line in lines]
    return [{name: value for name, value in sample.items() if name != "label"} for sample in samples]


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.request", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--count", type=int, default=10, help="how many instances, at most")
    arguments = parser.parse_args(argv)
    if arguments.count < 1:
        raise UserError(f"--count={arguments.count}: give at least 1")
    lines, body = request(**vars(arguments))
    print(f"{lines}  an instance a line: for batch prediction, and for make predict INPUT={lines.name}")
    print(f"{body}  one request: for gcloud ai endpoints predict --json-request={body.name}")


if __name__ == "__main__":
    executor.run(main)
