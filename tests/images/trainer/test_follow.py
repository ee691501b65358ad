"""Protects evaluation beside training: a worker killed, the follower killed, and the best epoch is the model."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from images import executor
from images.executor import UserError
from images.trainer import hyperparameters as spaces
from images.trainer.follow import follow
from images.trainer.ingest import ingest
from images.trainer.place import place
from images.trainer.published import Published
from images.trainer.sample import sample
from localvertex.home import Home
from tests.localvertex.jobs.support import Service, until
from tests.localvertex.processes import workloads

EPOCHS = 3
SIDE = 64


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Examples of a few small scenes, with hyperparameters beside them."""
    folder = tmp_path_factory.mktemp("scenes")
    sample("detection", folder / "source", "objects", 120, seed=2, processes=1)
    ingest("detection", folder / "source", folder / "examples", {"height": SIDE, "width": SIDE}, processes=1)
    chosen = {**spaces.to_dict(spaces.of("detection")()), "width": 8, "batch_size": 8}
    (folder / "chosen.json").write_text(json.dumps(chosen))
    return folder


def following(scenes: Path, out: Path, **flags) -> list[str]:
    given = {"patience": 300, "checkpoints": out / "checkpoints", "model": out / "model", "evaluations": out / "e.csv"}
    return [
        *("-m", "images.trainer.follow", "--system=detection"),
        f"--examples={scenes}/examples",
        f"--hyperparameters={scenes}/chosen.json",
        *(f"--{name}={value}" for name, value in {**given, **flags}.items()),
    ]


@pytest.fixture(scope="module")
def survived(tmp_path_factory, scenes) -> tuple[Path, str, str]:
    """What a training on two workers and its follower leave, each killed after the first epoch: the folder, the
    chief's log and what the second follower said."""
    out = tmp_path_factory.mktemp("followed")
    training = [
        *("python", "-m", "images.trainer.train", "--system=detection", "--seed=1", f"--epochs={EPOCHS}"),
        f"--examples={scenes}/examples",
        f"--hyperparameters={scenes}/chosen.json",
        f"--checkpoints={out}/not-used",
        f"--followed={out}/checkpoints",
        f"--model={out}/trained",
    ]
    pool = {
        "container_spec": {"image_uri": "example.test/trainer:1", "command": training},
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
    }
    command = [sys.executable, *following(scenes, out)]
    with contextlib.closing(Service(Home(tmp_path_factory.mktemp("home")).create())) as service:
        first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        restart = {"restart_job_on_worker_restart": True}
        job = service.custom("", wait=False, worker_pool_specs=[pool, pool], scheduling=restart)
        until(lambda: "epoch 1/" in service.log(job))
        _, worker = workloads(service.home)[:2]
        worker.send_signal(signal.SIGKILL)
        assert first.stdout is not None
        next(line for line in first.stdout if line.startswith("epoch 1 "))
        first.kill()
        first.communicate()
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        job = service.finished(job)
        assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
        assert second.returncode == 0, second.stderr
        return out, service.log(job), second.stdout


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_epoch_is_trained_and_measured_once(survived):
    out, trained, said = survived
    assert "resuming after epoch" in trained
    assert [int(row["epoch"]) for row in rows(out / "e.csv")] == list(range(1, EPOCHS + 1))
    assert [int(row["epoch"]) for row in rows(out / "model" / "history.csv")] == list(range(1, EPOCHS + 1))
    measured = [line for line in said.splitlines() if line.startswith("epoch 1 ")]
    assert not measured, "the killed follower had measured it already"
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def test_the_best_epoch_is_the_model(survived):
    import keras

    from images.trainer.systems.detection import model

    out, _, _ = survived
    measured = {int(row["epoch"]): float(row["map"]) for row in rows(out / "e.csv")}
    best = max(measured, key=lambda epoch: (measured[epoch], -epoch))
    told = json.loads((out / "model" / "training.json").read_text())
    assert (told["best_epoch"], told["workers"]) == (best, 2)
    assert told["val_map"] == pytest.approx(measured[best], rel=1e-4)
    published = Published(out / "checkpoints").weights(best)
    kept = keras.models.load_model(out / "model" / "model.keras", compile=False).get_weights()
    assert published is not None
    for weight, same in zip(kept, published, strict=True):
        np.testing.assert_array_equal(weight, same)
    assert model.STRIDES
    assert {path.name for path in (out / "trained").iterdir()} == {path.name for path in (out / "model").iterdir()}


def test_tensorboard_has_scores_and_pictures_of_every_epoch(survived):
    from tensorflow.core.util import event_pb2
    from tensorflow.data import TFRecordDataset

    found = {}
    for record in TFRecordDataset([str(path) for path in (survived[0] / "model" / "logs").iterdir()]):
        event = event_pb2.Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault((value.metadata.plugin_data.plugin_name, value.tag), []).append(event.step)
            if value.tag == "validation-pictures":
                assert value.tensor.string_val[2].startswith(b"\x89PNG")
    for tag in (("scalars", "validation/map"), ("scalars", "epoch_loss"), ("images", "validation-pictures")):
        assert sorted(set(found[tag])) == list(range(1, EPOCHS + 1)), tag


def test_the_served_graph_answers_about_pictures_of_any_size(survived, scenes, tmp_path):
    import io

    import keras
    import tensorflow as tf
    from PIL import Image

    from images.trainer.records import read
    from images.trainer.systems.detection import serving

    schema = json.loads((scenes / "examples" / "schema.json").read_text())
    network = keras.models.load_model(survived[0] / "model" / "model.keras", compile=False)
    module = tf.Module()
    module.network = network
    tf.saved_model.save(module, str(tmp_path), signatures=serving.signatures(network, schema))
    answer = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]

    stored = {}
    for shard in (scenes / "examples" / "test").glob("*.tfrecord"):
        stored |= {features["key"][0]: features for features in read(shard.read_bytes())}
    key, features = sorted(stored.items())[0]
    file = scenes / "source" / "JPEGImages" / f"{Path(key.decode()).name}.jpg"
    canvas, _ = serving.prepare(tf.constant([file.read_bytes()]), SIDE, SIDE)
    ingested = np.frombuffer(features["image"][0], np.uint8).reshape(SIDE, SIDE, 3)
    assert np.abs(canvas.numpy()[0].astype(int) - ingested).max() <= 1, "served pictures are not what was trained on"

    wide = io.BytesIO()
    Image.open(file).resize((400, 100)).save(wide, "PNG")
    given = answer(bytes_inputs=tf.constant([file.read_bytes(), wide.getvalue()]), key=tf.constant(["one", "other"]))
    assert {name: value.shape[1:] for name, value in given.items()} == {
        "detection_boxes": (100, 4), "detection_scores": (100,), "detection_classes": (100,),
        "detection_class_names": (100,), "num_detections": (), "objects": (), "confidence": (), "key": (),
    }  # fmt: skip
    assert given["key"].numpy().tolist() == [b"one", b"other"]
    for boxes, scores, numbers, names, count in zip(
        *(given[f"detection_{name}"].numpy() for name in ("boxes", "scores", "classes", "class_names")),
        given["num_detections"].numpy(),
        strict=True,
    ):
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert (np.diff(scores) <= 0).all()
        assert [schema["classes"][number - 1].encode() for number in numbers[:count]] == names[:count].tolist()
        assert not scores[count:].any()
        assert not boxes[count:].any()


def test_a_box_comes_back_to_the_picture_as_it_was_sent():
    """A network that frames the middle of the canvas frames the middle of every picture, whatever its shape."""
    import io

    import tensorflow as tf
    from PIL import Image

    from images.trainer.systems.detection import outputs, serving

    def network(canvases, training):
        row = tf.constant([[0.25, 0.25, 0.75, 0.75]]) * SIDE
        fixed = tf.constant([[32.0, 32.0, 8.0, 0.5, 9.0]])
        assert outputs.LOGITS == 8
        return tf.tile(tf.concat([row, fixed], axis=-1)[tf.newaxis], [tf.shape(canvases)[0], 1, 1])

    files = []
    for size in ((64, 64), (200, 100), (50, 150)):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        files.append(buffer.getvalue())
    schema = {"image": {"height": SIDE, "width": SIDE}, "classes": ["thing"]}
    answer = serving.signatures(network, schema)["serving_default"]
    boxes = answer(tf.constant(files), tf.constant([""] * 3))["detection_boxes"].numpy()[:, 0]
    np.testing.assert_allclose(boxes, [[0.25, 0.25, 0.75, 0.75], [0, 0.25, 1, 0.75], [0.25, 0, 0.75, 1]], atol=0.02)


def hopeless(scenes, out, **more):
    return follow(
        "detection",
        str(scenes / "examples"),
        str(scenes / "chosen.json"),
        str(out),
        str(out / "model"),
        str(out / "e.csv"),
        **more,
    )


def test_a_training_that_never_begins_is_given_up(scenes, tmp_path):
    with pytest.raises(UserError, match="a sign that training has begun was awaited"):
        hopeless(scenes, tmp_path, patience=0.1)
    assert not (tmp_path / "model").exists()


def test_a_training_that_dies_without_a_word_is_given_up(scenes, tmp_path):
    Published(tmp_path).begin(resumed=False)
    with pytest.raises(UserError, match="an epoch was awaited: the trainer has died"):
        hopeless(scenes, tmp_path, patience=0.1)


def test_a_training_that_failed_is_waited_for_and_then_given_up(scenes, tmp_path):
    published = Published(tmp_path)
    published.begin(resumed=False)
    published.fail("the loss is no longer a number")
    begun = time.monotonic()
    with pytest.raises(UserError, match="training failed: the loss is no longer a number"):
        hopeless(scenes, tmp_path, patience=300, grace=1.5)
    assert time.monotonic() - begun > 1.5


def test_a_training_begun_anew_leaves_nothing_of_the_old(tmp_path):
    published = Published(tmp_path)
    published.begin(resumed=False)
    published.add(1, [np.zeros(2)])
    published.begin(resumed=True)
    assert (published.epochs(), published.state().attempt) == ([1], 2)
    published.begin(resumed=False)
    assert (published.epochs(), published.state().attempt) == ([], 3)
    assert published.weights(1) is None


def test_the_place_is_in_the_runs_folder(tmp_path):
    folder = place(str(tmp_path / "run" / "place" / "mark"), str(tmp_path / "run" / "place" / "folder"))
    assert folder == str(tmp_path / "run" / "checkpoints")
    assert (tmp_path / "run" / "place" / "folder").read_text() == folder
    # Its outputs stay as they are when checkpoints are added: else no cache would trust them.
    before = executor.digest(tmp_path / "run" / "place")
    Published(folder).begin(resumed=False)
    assert executor.digest(tmp_path / "run" / "place") == before


def test_a_users_mistake_is_one_line(scenes, tmp_path):
    made = subprocess.run(
        [sys.executable, *following(scenes, tmp_path, hyperparameters="/absent.json")],
        capture_output=True, text=True, env=os.environ, check=False,
    )  # fmt: skip
    assert (made.returncode, made.stderr.count("\n")) == (2, 1)
    assert "cannot be read" in made.stderr
