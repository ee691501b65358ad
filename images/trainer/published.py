"""What a training leaves, epoch by epoch, for another task that follows it while it goes on.

In the folder: the weights of each epoch, and `state.json`. Files appear whole or not at all, so that either side may be
killed at any moment. The reader needs no clock of the writer's.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from images import executor

FOLDER = "published"
RUNNING, DONE, FAILED = "running", "done", "failed"
_STATE, _FINISHED, _NETWORK = "state.json", "finished", "model.keras"
_EPOCH = re.compile(r"epoch-(\d{5})\.npz")


class State(NamedTuple):
    """How far a training is.

    Attributes:
        name: `RUNNING`, `DONE` or `FAILED`.
        reason: why it failed.
        attempt: how often it has been begun.
    """

    name: str
    reason: str = ""
    attempt: int = 1


class Published:
    """Both ends of it.

    Args:
        checkpoints: the folder of the training's checkpoints.
    """

    def __init__(self, checkpoints: str | Path) -> None:
        self.folder = Path(checkpoints) / FOLDER

    def begin(self, resumed: bool) -> None:
        """Says that training has begun; without a checkpoint to resume from, what an earlier one left is removed."""
        before = self.state()
        if not resumed:
            executor.remove(self.folder)
        self._say(State(RUNNING, attempt=before.attempt + 1 if before else 1))

    def add(self, epoch: int, weights: Sequence[np.ndarray]) -> None:
        """Publishes the weights of an epoch."""
        with executor.whole(self.folder / f"epoch-{epoch:05d}.npz") as aside, aside.open("wb") as file:
            np.savez(file, *weights)

    def finish(self, model: str | Path) -> None:
        """Publishes the rest of what was learned from a whole model folder, and says that no epoch follows."""
        with executor.whole(self.folder / _FINISHED) as aside:
            shutil.copytree(model, aside, ignore=shutil.ignore_patterns(_NETWORK))
        self._say(State(DONE, attempt=self._attempt()))

    def fail(self, reason: str) -> None:
        """Says that training has failed; it may be begun again."""
        self._say(State(FAILED, reason, self._attempt()))

    def state(self) -> State | None:
        """How far the training is; None when it has not begun."""
        try:
            return State(**json.loads((self.folder / _STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def epochs(self) -> list[int]:
        """Which epochs are there, from 1."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(int(match[1]) for match in map(_EPOCH.fullmatch, names) if match)

    def weights(self, epoch: int) -> list[np.ndarray] | None:
        """The weights of an epoch; None if it is no longer there, since training has begun anew."""
        try:
            with np.load(self.folder / f"epoch-{epoch:05d}.npz") as stored:
                return [stored[name] for name in stored.files]
        except (OSError, EOFError, ValueError, zipfile.BadZipFile):
            return None

    @property
    def finished(self) -> Path:
        """The model folder without its network, once training is done."""
        return self.folder / _FINISHED

    def _attempt(self) -> int:
        state = self.state()
        return state.attempt if state else 1

    def _say(self, state: State) -> None:
        with executor.whole(self.folder / _STATE) as aside:
            aside.write_text(json.dumps(state._asdict()) + "\n", encoding="utf-8")


def summary(finished: Path) -> dict[str, Any]:
    """What `train` said of a training that is done."""
    found: dict[str, Any] = json.loads((finished / "training.json").read_text(encoding="utf-8"))
    return found
