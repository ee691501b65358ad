"""The place stage: where a training keeps its checkpoints, said before it begins, so that another task can follow it.

The folder is that of the run in which this stage was executed. It is taken from the cache when the training that has
the same inputs is, and then names the folder where that training's checkpoints are.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from images import executor
from images.executor import ExecutorOutput

FOLDER = "checkpoints"


def place(mark: str, folder: str) -> str:
    """Chooses the folder.

    Args:
        mark: a file to write, at `<run's folder>/<task>/<name>`.
        folder: the file to write the folder's name into.

    Returns:
        `<run's folder>/checkpoints`. It is not made.
    """
    chosen = os.path.normpath(Path(mark).parent.parent / FOLDER)
    with executor.whole(mark) as aside:
        aside.write_text("The checkpoints are in this run's folder.\n", encoding="utf-8")
    with executor.whole(folder) as aside:
        aside.write_text(chosen, encoding="utf-8")
    return chosen


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.place", description=__doc__, allow_abbrev=False)
    parser.add_argument("--mark", required=True, help="a file to write in the task's own folder")
    parser.add_argument("--folder", required=True, help="the file to write the folder's name into")
    parser.add_argument("--training", action="append", default=[], help="what decides the training; not read")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = parser.parse_args(argv)
    output = ExecutorOutput(arguments.executor_input)
    print(place(arguments.mark, arguments.folder))
    output.log("mark", digest=executor.digest(arguments.mark))
    output.write()


if __name__ == "__main__":
    executor.run(main)
