"""Protects ddsm's serving: the graph makes of a file what ingest makes of it, or says what it cannot read."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import tensorflow as tf

from images.server.servable import BadRequest, Servable
from images.trainer.candidates import Candidate
from images.trainer.systems.ddsm import data, model, serving
from images.trainer.systems.ddsm.hyperparameters import Hyperparameters
from tests.images.trainer.mammograms import HEIGHT, WIDTH, dicom, film, png

SCHEMA = {
    "image": {"height": HEIGHT, "width": WIDTH},
    "classes": ["1", "2", "3", "4"],
    "pixels": {"mean": 60.0, "deviation": 50.0},
}
GREYS = film(1, height=301, width=190)
TWELVE_BITS = GREYS >> 4
FILES = {
    "8 bits": png((GREYS >> 8).astype(np.uint8)),
    "16 bits": png(GREYS),
    "mirrored": png(film(2, mirrored=True, height=150, width=149)),
    "wide": png(film(3, height=90, width=170)),
    "small": png(film(4, height=21, width=13)),
    "as it is": png(film(5)),
    "dicom": dicom(GREYS),
    "dicom, implicit": dicom(GREYS, "1.2.840.10008.1.2"),
    "dicom of 8 bits and odd size": dicom((GREYS >> 8).astype(np.uint8)[:, :189].copy()),
    "dicom of 12 bits": dicom(TWELVE_BITS, bits=12),
    "dicom, inverted": dicom(4095 - TWELVE_BITS, bits=12, shown="MONOCHROME1"),
    "dicom, signed": dicom((TWELVE_BITS.astype(np.int32) - 2048).astype(np.int16), bits=12),
}


@pytest.fixture(scope="module")
def network():
    return model.build(Hyperparameters(width=8), SCHEMA)


@pytest.fixture(scope="module")
def served(tmp_path_factory, network):
    """What the server loads."""
    folder = tmp_path_factory.mktemp("served") / "model"
    module = tf.Module()
    module.network = network
    tf.saved_model.save(module, str(folder), signatures=serving.signatures(network, SCHEMA))
    return Servable(folder)


def instance(file: bytes, **more):
    return {"bytes_inputs": {"b64": base64.b64encode(file).decode()}, **more}


def ingested(file: bytes) -> np.ndarray:
    form = data.data({"height": HEIGHT, "width": WIDTH})
    features = form.features(Candidate("", "", ""), form.decoded(file))
    return np.frombuffer(features["image"], np.uint8).reshape(HEIGHT, WIDTH)


def test_the_graph_prepares_files_as_ingest_does():
    prepared = serving.prepare(tf.constant(list(FILES.values())), HEIGHT, WIDTH).numpy()
    for name, file, pixels in zip(FILES, FILES.values(), prepared, strict=True):
        off = np.abs(pixels.astype(int) - ingested(file))
        # Both add up the same numbers in another order: a grey on the border between two may fall to either.
        assert off.max() <= 1 and off.mean() < 0.002, name


def test_what_is_the_same_film_gives_the_same_picture():
    twelve = ["dicom of 12 bits", "dicom, inverted", "dicom, signed"]
    first, *others = [ingested(FILES[name]) for name in twelve]
    assert all(np.array_equal(first, other) for other in others)
    assert np.array_equal(ingested(FILES["dicom"]), ingested(FILES["16 bits"]))


def test_an_answer_has_probabilities_an_expected_density_and_the_key(served, network):
    answers = served.predict([instance(FILES["16 bits"], key="a"), instance(FILES["dicom, implicit"])])
    assert [answer["key"] for answer in answers] == ["a", ""]
    logits = network(ingested(FILES["16 bits"])[np.newaxis], training=False)
    expected = tf.nn.softmax(logits)[0].numpy()
    for answer in answers:
        assert answer["probabilities"] == pytest.approx(expected, abs=1e-4)
        assert answer["expected_density"] == pytest.approx(float(expected @ [1, 2, 3, 4]), abs=1e-3)
        assert answer["class"] == SCHEMA["classes"][int(expected.argmax())]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (dicom(GREYS)[:-5000], "DICOM: damaged, or its pixels are cut short"),
        (dicom(GREYS, frames=2), "DICOM: not one grey image"),
        (dicom(GREYS).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"), "DICOM: compressed or big endian"),
        (dicom(GREYS)[:200], "DICOM: "),
        (b"no picture at all", "Unknown image file format"),
        (b"", "Input is empty"),
    ],
    ids=["cut short", "two frames", "compressed", "only a beginning", "no picture", "empty"],
)
def test_a_file_that_cannot_be_read_is_named(served, file, message):
    with pytest.raises(BadRequest, match=f"^instance 1: .*{message}"):
        served.predict([instance(FILES["8 bits"]), instance(file)])
