"""Protects the SavedModel: it sees what ingest saw, answers as the model does, carries smoke instances."""

import base64
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from images.trainer import examples
from images.trainer.pictures import decode_grey
from images.trainer.systems.crnn import data, serving

# Pillow resizes in whole numbers, TensorFlow in floats: a grey that falls on a half may round either way.
GREY_LEVELS_APART = 1
PIXELS_APART = 0.01


def ingested(file: bytes, height: int = 32, width: int = 128) -> np.ndarray:
    """What ingest makes of an image file."""
    return np.asarray(data.padded(data.scaled(decode_grey(file), width, height), width, height))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scribble(width: int, height: int, channels: int, seed: int = 0) -> np.ndarray:
    """Smooth noise, as uint8 [height, width, channels]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 3 + 2, width // 3 + 2, channels), np.uint8)
    planes = [np.asarray(Image.fromarray(coarse[..., c]).resize((width, height), 2)) for c in range(channels)]
    return np.stack(planes, axis=-1)


def pictures():
    """Images of each mode that a PNG or JPEG file can have."""
    grey, colour, clear = scribble(90, 40, 1)[..., 0], scribble(90, 40, 3), scribble(90, 40, 4)
    four_bits = Image.fromarray(grey // 16 * 17).quantize(16)
    palette = Image.fromarray(colour).convert("P", palette=Image.Palette.ADAPTIVE)
    return {
        "grey": encoded(Image.fromarray(grey)),
        "colour": encoded(Image.fromarray(colour)),
        "transparent": encoded(Image.fromarray(clear, "RGBA")),
        "grey and transparent": encoded(Image.fromarray(clear[..., :2], "LA")),
        "palette": encoded(palette),
        "palette with a transparent colour": encoded(palette, transparency=3),
        "black and white": encoded(Image.fromarray(grey).convert("1")),
        "4 bits": encoded(four_bits, bits=4),
        "16 bits": encoded(Image.fromarray(grey.astype(np.uint16) * 257)),
        "grey jpeg": encoded(Image.fromarray(grey), "JPEG", quality=90),
        "colour jpeg": encoded(Image.fromarray(colour), "JPEG", quality=90),
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory, trained, stage):
    """The folder with an export's two folders."""
    folder = tmp_path_factory.mktemp("exported")
    made = stage(
        "trainer.export",
        "--system=crnn",
        f"--examples={trained.examples}",
        f"--model={trained.model}",
        f"--saved_model={folder}/saved_model",
        f"--smoke={folder}/smoke",
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def saved_model(exported):
    """The SavedModel, loaded without any code of ours."""
    return tf.saved_model.load(str(exported / "saved_model"))


def smoke(exported):
    return [json.loads(line) for line in (exported / "smoke" / "smoke.jsonl").read_text().splitlines()]


def inputs(lines):
    files = [base64.b64decode(line["instance"]["bytes_inputs"]["b64"]) for line in lines]
    return {
        "bytes_inputs": tf.constant(files),
        "key": tf.constant([line["instance"]["key"] for line in lines]),
    }


@pytest.mark.parametrize("mode", pictures())
def test_the_graph_decodes_every_mode_as_ingest_does(mode):
    file = pictures()[mode]
    np.testing.assert_array_equal(serving.decode_grey(tf.constant(file)), np.asarray(decode_grey(file)))


@pytest.mark.parametrize("size", [(128, 32), (60, 32), (128, 20)])
def test_without_a_resize_the_graph_sees_what_ingest_saw_to_the_pixel(size):
    file = encoded(Image.fromarray(scribble(*size, 1)[..., 0]))
    np.testing.assert_array_equal(serving.prepare(tf.constant([file]), 32, 128)[0], ingested(file))


@pytest.mark.parametrize("size", [(300, 90), (1000, 41), (20, 300), (31, 9), (129, 33), (1, 1), (7, 500), (500, 1)])
def test_with_a_resize_the_graph_sees_what_ingest_saw_within_a_grey_level(size):
    file = encoded(Image.fromarray(scribble(*size, 1, seed=sum(size))[..., 0]))
    apart = np.abs(serving.prepare(tf.constant([file]), 32, 128)[0].numpy().astype(int) - ingested(file))
    assert apart.max() <= GREY_LEVELS_APART
    assert (apart > 0).mean() <= PIXELS_APART


def test_the_smoke_words_reach_the_network_as_they_did_from_the_examples(trained, exported):
    stored = {}
    for batch in examples.batches(trained.examples, examples.schema(trained.examples, "crnn"), "test", 64):
        stored |= dict(zip(batch["key"].numpy(), batch["image"].numpy(), strict=True))
    given = inputs(smoke(exported))
    seen = serving.prepare(given["bytes_inputs"], 32, 128).numpy().astype(int)
    apart = np.abs(seen - np.stack([stored[key] for key in given["key"].numpy()]))
    assert apart.max() <= GREY_LEVELS_APART
    assert (apart > 0).mean() <= PIXELS_APART


def test_the_smoke_file_says_what_the_saved_model_answers(exported, saved_model):
    lines = smoke(exported)
    assert 10 <= len(lines) <= 50
    answers = saved_model.signatures["serving_default"](**inputs(lines))
    assert [text.decode() for text in answers["text"].numpy()] == [line["expected"]["text"] for line in lines]
    confidences = [line["expected"]["confidence"] for line in lines]
    np.testing.assert_allclose(answers["confidence"], confidences, atol=1e-3)
    assert all(set(line["instance"]) == {"key", "bytes_inputs"} and line["truth"] for line in lines)


def test_keys_pass_through(exported, saved_model):
    given = inputs(smoke(exported))
    for signature in ("serving_default", "beam"):
        answers = saved_model.signatures[signature](**given)
        np.testing.assert_array_equal(answers["key"], given["key"])


def test_the_beam_gives_three_answers_the_likeliest_first(exported, saved_model):
    given = inputs(smoke(exported))
    beam = saved_model.signatures["beam"](**given)
    greedy = saved_model.signatures["serving_default"](**given)
    confidences = beam["confidences"].numpy()
    assert beam["texts"].shape == confidences.shape == (len(confidences), 3)
    assert (np.diff(confidences) <= 0).all()
    assert (confidences.sum(axis=1) <= 1 + 1e-4).all()
    assert all(len(set(texts)) == 3 for texts in beam["texts"].numpy())
    found = sum(text in texts for text, texts in zip(greedy["text"].numpy(), beam["texts"].numpy(), strict=True))
    assert found >= 0.8 * len(confidences)
    assert (confidences[:, 0] >= greedy["confidence"].numpy() - 1e-4).mean() > 0.9


def test_a_blank_image_is_answered(saved_model):
    white = encoded(Image.new("L", (50, 20), 255))
    for signature in ("serving_default", "beam"):
        answer = saved_model.signatures[signature](bytes_inputs=tf.constant([white]), key=tf.constant(["k"]))
        assert answer["key"].numpy().tolist() == [b"k"]


def test_a_folder_that_is_no_model_is_one_line(tmp_path, trained, stage):
    flags = ["--system=crnn", f"--examples={trained.examples}", f"--model={tmp_path}"]
    made = stage("trainer.export", *flags, f"--saved_model={tmp_path}/s", f"--smoke={tmp_path}/t")
    assert made.returncode == 2
    assert made.stderr == f"error: --model={tmp_path}: no model.keras there; give the folder that train wrote\n"
    assert list(tmp_path.iterdir()) == []
