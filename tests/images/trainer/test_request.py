"""Protects request.json: test digits in the classic form, an instance a line, and the same as one request's body."""

from __future__ import annotations

import base64
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from images.executor import UserError
from images.trainer.pictures import decode_grey
from images.trainer.request import request
from images.trainer.systems.mnist.data import classic_instance


def sample(seed: int) -> tuple[np.ndarray, dict[str, object]]:
    """Greys and the sample that ingest keeps of them."""
    greys, file = np.random.default_rng(seed).integers(0, 256, (28, 28), np.uint8), io.BytesIO()
    Image.fromarray(greys).save(file, "PNG")
    encoded = {"b64": base64.b64encode(file.getvalue()).decode()}
    return greys, {"key": f"t10k-{seed:05d}", "label": "3", "bytes_inputs": encoded}


@pytest.fixture
def examples(tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample(seed)[1]) + "\n" for seed in range(12)))
    return folder


def test_digits_are_written_as_the_classic_script_wrote_them(examples, tmp_path):
    lines, body = request("mnist", str(examples), str(tmp_path / "request.json"))
    instances = [json.loads(line) for line in lines.read_text().splitlines()]
    assert lines == tmp_path / "request.json" and body == tmp_path / "request.instances.json"
    assert len(instances) == 10
    for seed, instance in enumerate(instances):
        assert set(instance) == {"inputs", "key"} and instance["key"] == f"t10k-{seed:05d}"
        # The graph rounds to whole greys again: nothing is lost.
        np.testing.assert_array_equal(np.round(255 * np.array(instance["inputs"])), sample(seed)[0].ravel())
        assert min(instance["inputs"]) >= 0 and max(instance["inputs"]) <= 1
    assert json.loads(body.read_text()) == {"instances": instances}


def test_a_system_without_a_classic_form_is_asked_as_its_samples_are(tmp_path):
    flower = {"sepal_length": 5.9, "sepal_width": 3.0, "petal_length": 4.2, "petal_width": 1.5, "key": "a"}
    (tmp_path / "samples.jsonl").write_text(json.dumps({**flower, "label": "setosa"}) + "\n")
    lines, _ = request("iris", str(tmp_path), str(tmp_path / "request.json"), count=3)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [flower]


def test_the_pixels_are_those_that_ingest_saw():
    _, given = sample(1)
    found = classic_instance(given)
    grey = decode_grey(base64.b64decode(given["bytes_inputs"]["b64"]))
    assert found["inputs"] == [round(value / 255, 4) for value in grey.tobytes()]


def test_a_folder_without_samples_is_one_message(tmp_path):
    with pytest.raises(UserError, match=r"no samples\.jsonl there"):
        request("mnist", str(tmp_path), str(tmp_path / "request.json"))
    assert os.listdir(tmp_path) == []


def test_the_command_line_says_which_file_is_for_what(examples, tmp_path, stage):
    made = stage("trainer.request", "--system=mnist", f"--examples={examples}", f"--out={tmp_path}/r.json", "--count=2")
    assert made.returncode == 0, made.stderr
    assert "batch prediction" in made.stdout and "predict --json-request=r.instances.json" in made.stdout
    assert len((tmp_path / "r.json").read_text().splitlines()) == 2
    made = stage("trainer.request", "--system=mnist", f"--examples={examples}", f"--out={tmp_path}/r.json", "--count=0")
    assert (made.returncode, made.stderr) == (2, "error: --count=0: give at least 1\n")
