"""Small real data and a small trained word reader, made once for all the tests of the images."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORDS = 500


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


@pytest.fixture(scope="session")
def word_examples(tmp_path_factory) -> Path:
    """Examples of a few hundred words, from the sample by way of ingest."""
    folder = tmp_path_factory.mktemp("words")
    made = run_stage("trainer.sample", "--system=crnn", f"--count={WORDS}", "--seed=3", f"--out={folder}/source")
    assert made.returncode == 0, made.stderr
    flags = ("--height=32", "--width=128", "--max_reject_share=0.2")
    made = run_stage(
        "trainer.ingest",
        "--system=crnn",
        f"--source={folder}/source",
        f"--examples={folder}/examples",
        *flags,
    )
    assert made.returncode == 0, made.stderr
    return folder / "examples"


@pytest.fixture(scope="session")
def digit_examples(tmp_path_factory) -> Path:
    """Examples of a few hundred digits, from the sample by way of ingest."""
    folder = tmp_path_factory.mktemp("digits")
    made = run_stage("trainer.sample", "--system=mnist", "--count=600", "--seed=3", f"--out={folder}/source")
    assert made.returncode == 0, made.stderr
    made = run_stage(
        "trainer.ingest",
        "--system=mnist",
        f"--source={folder}/source",
        f"--examples={folder}/examples",
        "--max_reject_share=0",
    )
    assert made.returncode == 0, made.stderr
    return folder / "examples"


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
    folder = tmp_path_factory.mktemp("trained")
    made = run_stage(
        "trainer.train",
        "--system=crnn",
        f"--examples={word_examples}",
        f"--hyperparameters={known_good}",
        "--epochs=8",
        "--seed=1",
        f"--checkpoints={folder}/checkpoints",
        f"--model={folder}/model",
    )
    assert made.returncode == 0, made.stderr
    return Stages(word_examples, known_good, folder / "model")
