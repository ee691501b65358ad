"""Small real data and a small trained word reader, made once for all the tests of the images."""

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from images.trainer.ingest import ingest
from images.trainer.sample import sample

WORDS, EPOCHS = 500, 8


@dataclasses.dataclass(frozen=True)
class Stages:
    """The folders that a run of the stages leaves."""

    examples: Path
    hyperparameters: Path
    model: Path


def run_stage(module: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a stage the way a container does."""
    return subprocess.run(
        [sys.executable, "-m", f"images.{module}", *flags],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture(scope="session")
def stage():
    """`run_stage`, for tests."""
    return run_stage


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once in a run: the first of its processes that wants it makes it, the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = folder.with_suffix(".made")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def word_examples(tmp_path_factory) -> Path:
    """Examples of a few hundred words, from the sample by way of ingest."""

    def make(folder: Path) -> None:
        sample("crnn", folder / "source", count=WORDS, seed=3, processes=1)
        ingest("crnn", folder / "source", folder / "examples", {"height": 32, "width": 128}, processes=1)

    return once(tmp_path_factory, "words", make) / "examples"


@pytest.fixture(scope="session")
def digit_examples(tmp_path_factory) -> Path:
    """Examples of a few hundred digits, from the sample by way of ingest."""

    def make(folder: Path) -> None:
        sample("mnist", folder / "source", count=600, seed=3, processes=1)
        ingest("mnist", folder / "source", folder / "examples", {}, max_reject_share=0, processes=1)

    return once(tmp_path_factory, "digits", make) / "examples"


@pytest.fixture(scope="session")
def iris_examples(tmp_path_factory) -> Path:
    """Examples of all irises."""

    def make(folder: Path) -> None:
        sample("iris", folder / "source", processes=1)
        ingest("iris", folder / "source", folder / "examples", {}, processes=1)

    return once(tmp_path_factory, "irises", make) / "examples"


@pytest.fixture(scope="session")
def known_good(tmp_path_factory) -> Path:
    """A file with the default hyperparameters, but for a smaller batch: more steps from few words."""
    from images.trainer import hyperparameters

    file = tmp_path_factory.mktemp("hyperparameters") / "hyperparameters.json"
    values = hyperparameters.to_dict(hyperparameters.of("crnn")())
    file.write_text(json.dumps({**values, "batch_size": 16}))
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory, word_examples, known_good) -> Stages:
    """A model trained long enough to read a little."""

    def make(folder: Path) -> None:
        made = run_stage(
            "trainer.train",
            "--system=crnn",
            f"--examples={word_examples}",
            f"--hyperparameters={known_good}",
            f"--epochs={EPOCHS}",
            "--seed=1",
            f"--checkpoints={folder}/checkpoints",
            f"--model={folder}/model",
        )
        assert made.returncode == 0, made.stderr

    return Stages(word_examples, known_good, once(tmp_path_factory, "trained", make) / "model")
