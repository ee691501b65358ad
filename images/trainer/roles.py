"""Which systems there are, and the modules that play a stage's role for one of them.

The stages are the same for all systems; what differs is in modules of `images.trainer.systems.<system>`:

data             what ingest reads and what it writes of it; of a table its `COLUMNS`; `classic_instance(instance)`
                 where the first clients of the system sent another form of instance than today's
hyperparameters  `Hyperparameters`: a frozen dataclass whose fields know their space
model            `build(hyperparameters, schema)`: the network; `inputs`, `targets`, `truths`: of a batch of
                 examples what the network reads, what the loss compares with, and the right answers;
                 `augment(inputs, seed, hyperparameters)`, or, where targets change with the inputs,
                 `training_pair(batch, seed, hyperparameters)`: both, changed at random for training; `loss()`;
                 `answers(outputs, schema)`: tensors by name
metrics          `MONITOR`: the error rate that training and tuning lower; `measure(truths, answers)`: a
                 dictionary with it; `evaluate(truths, answers, features)`: all numbers of the report; of a classifier
                 `confusion(truths, answers, classes)`: how often each was taken for each
                 Where a training is followed, `CHOSEN_BY`: the score by which its best epoch is chosen, the higher
                 the better; `SHOWN`: the scores that are shown
report           `TITLE`; `numbers(rates)`; `sections(rates, truths, answers, features, history)`; where a
                 training is followed, `summaries(truths, answers, features)`: pictures for TensorBoard
serving          `signatures(network, schema)`: the SavedModel's entry points; `ANSWER`: the output that is to
                 be compared with the truth. Beside it every system gives a `confidence`
release          `requests(batch)`: examples as clients send them; `errors(truths, answers)`: how wrong each is, as
                 `gate.Errors`; `METRIC`: the name of their rate, where it is not `MONITOR`; `slices(truths, features)`:
                 parts of the examples that no release may harm; where examples come in groups, `groups(features)`:
                 whom each is from
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from types import ModuleType

from images.executor import UserError


def systems() -> list[str]:
    """The names of all systems: the folders in `images/trainer/systems` that define hyperparameters."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("systems/*/hyperparameters.py"))


def load(system: str, role: str) -> ModuleType:
    """Imports the module `images.trainer.systems.<system>.<role>`.

    Args:
        system: such as "crnn".
        role: the module's name: data, hyperparameters, model, metrics, report or serving.

    Raises:
        UserError: there is no such system.
    """
    if system not in systems():
        raise UserError(f"--system={system}: no such system{nearest(system, systems())}")
    return importlib.import_module(f"images.trainer.systems.{system}.{role}")


def nearest(name: str, valid: list[str]) -> str:
    """The end of a message about an unknown name: the valid name nearest to it, or all of them."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the names are {', '.join(valid)}"
