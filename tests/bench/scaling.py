"""Training on digits: what reading and augmenting take of a core, and two workers of a core each against one."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from images.trainer.ingest import ingest
from images.trainer.sample import sample
from images.trainer.workers import cores
from localvertex.services.workers import free_ports
from tests.bench.measurement import Measurement, at_most

MOST = 0.1
EPOCHS = 5
TRAIN = [sys.executable, "-m", "images.trainer.train", "--system=mnist", "--seed=1", f"--epochs={EPOCHS}"]

# Processor time of the batches of as many digits as a small share of MNIST, and of a training on them; the shortest.
INPUT_SHARE = """
import sys, time
from images.trainer import learning
from images.trainer.systems.mnist.hyperparameters import Hyperparameters

learner = learning.Learner("mnist", sys.argv[1], Hyperparameters(), epochs=8, seed=1)
reading, training = [], []
for epoch in range(1, 4):
    data = learner._training_data(epoch).repeat(8)
    start = time.process_time()
    for _ in data: pass
    reading.append(time.process_time() - start)
    start = time.process_time()
    learner._backend.fit(learner.network, data)
    training.append(time.process_time() - start)
print(min(reading), min(training))
"""


def measurements() -> Iterator[Measurement]:
    """Measures on the sample of digits, in about a minute."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.redirect_stdout(io.StringIO()):
            sample("mnist", folder / "source")
            ingest("mnist", folder / "source", folder / "examples", {})
        made = _pinned([sys.executable, "-c", INPUT_SHARE, str(folder / "examples")], 0, subprocess.PIPE)
        reading, training = map(float, made.communicate()[0].split())
        yield at_most(
            "digits: reading and augmenting / training step, one core",
            reading / training,
            MOST,
            f"{1000 * reading:.0f} of {1000 * training:.0f} ms of processor time for 104 steps",
        )
        one, two = (_examples_per_second(folder, workers) for workers in (1, 2))
        yield Measurement(
            "digits: two workers of a core each / one",
            two / one,
            "reported",
            True,
            f"{two:,.0f} against {one:,.0f} examples/s, the same global batch; {cores()} cores here",
        )


def _examples_per_second(folder: Path, workers: int) -> float:
    """The rate of the fastest epoch, which is one without compiling."""
    from images.trainer import hyperparameters

    chosen = folder / "hyperparameters.json"
    chosen.write_text(json.dumps(hyperparameters.to_dict(hyperparameters.of("mnist")())))
    out = folder / f"workers-{workers}"
    command = [
        *TRAIN, f"--examples={folder / 'examples'}", f"--hyperparameters={chosen}", "--streams=2",
        f"--checkpoints={out / 'checkpoints'}", f"--model={out / 'model'}",
    ]  # fmt: skip
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    running = []
    for index in range(workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        running.append(_pinned(command, index, subprocess.DEVNULL, TF_CONFIG=json.dumps(config)))
    if any([process.wait() for process in running]):
        raise RuntimeError(f"the training on {workers} workers failed")
    with (out / "model" / "history.csv").open(newline="") as file:
        return max(float(row["examples_per_second"]) for row in csv.DictReader(file))


def _pinned(command: list[str], core: int, output: int, **environment: str) -> subprocess.Popen[str]:
    """Starts a process that has one core, if this system can pin it there."""
    pin = None
    if hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))
        pin = functools.partial(os.sched_setaffinity, 0, {own[core % len(own)]})
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.Popen(
        command, stdout=output, stderr=subprocess.DEVNULL, text=True, env=environment, preexec_fn=pin
    )
