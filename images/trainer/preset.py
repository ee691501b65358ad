"""The preset stage: known hyperparameters by name, in the file that tune would write.

    python -m images.trainer.preset --system=mnist --name=classic --hyperparameters=FILE

A pipeline trains a preset beside what tune found: the report then says what tuning was worth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import hyperparameters as spaces
from images.trainer import roles


def preset(system: str, name: str, hyperparameters: str) -> None:
    """Writes a preset.

    Args:
        system: such as "mnist".
        name: of the system's `PRESETS`.
        hyperparameters: the JSON file to write.

    Raises:
        UserError: there is no such system or preset.
    """
    presets = getattr(roles.load(system, "hyperparameters"), "PRESETS", {})
    if name not in presets:
        raise UserError(f"--name={name}: {system} has no such preset{roles.nearest(name, list(presets))}")
    with executor.whole(hyperparameters) as aside:
        aside.write_text(json.dumps(spaces.to_dict(presets[name]), indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.preset", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--name", required=True, help="of the system's presets")
    parser.add_argument("--hyperparameters", required=True, help="the JSON file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    output = ExecutorOutput(arguments.pop("executor_input"))
    preset(**arguments)
    output.log("hyperparameters", digest=executor.digest(arguments["hyperparameters"]))
    output.write()


if __name__ == "__main__":
    executor.run(main)
