"""Protects what digits and irises are asked and answer: every form of request reaches the network as training did."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw, ImageOps

from images.server.servable import BadRequest, Servable
from images.trainer import roles
from images.trainer.distributions import distribution
from images.trainer.systems.iris import data as iris_data
from images.trainer.systems.iris import model as iris_model
from images.trainer.systems.iris import serving as iris_serving
from images.trainer.systems.iris.hyperparameters import Hyperparameters as IrisHyperparameters
from images.trainer.systems.mnist import model as mnist_model
from images.trainer.systems.mnist import serving as mnist_serving
from images.trainer.systems.mnist.hyperparameters import Hyperparameters as MnistHyperparameters

DIGITS = {"image": {"height": 28, "width": 28, "channels": 1}, "classes": list("0123456789")}
TRAINING = np.array([[4.3, 2.0, 1.0, 0.1], [5.8, 3.0, 3.8, 1.2], [7.9, 4.4, 6.9, 2.5]])
IRISES = {
    "classes": list(iris_data.CLASSES),
    "columns": {name: distribution(TRAINING[:, index]) for index, name in enumerate(iris_data.NAMES)},
}
MASS_APART, GREYS_APART = 0.5, 40


def png(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def drawn(
    paper: int = 255, ink: int = 0, size: tuple[int, int] = (300, 200), at: tuple[int, int] = (30, 20)
) -> Image.Image:
    """A seven, far from the middle."""
    image = Image.new("L", size, paper)
    left, top = at
    ImageDraw.Draw(image).line(
        [(left, top), (left + 70, top), (left + 25, top + 110)], fill=ink, width=14, joint="curve"
    )
    return image


def on_nothing(ink: int) -> Image.Image:
    """The same on transparent paper."""
    strokes = ImageOps.invert(drawn())
    return Image.merge("LA", (Image.new("L", strokes.size, ink), strokes))


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def prepare(files: tf.Tensor) -> tf.Tensor:
    return mnist_serving.prepare(files, 28, 28)


def prepared(file: bytes) -> np.ndarray:
    return prepare(tf.constant([file]))[0].numpy().astype(int)


def centre(digit: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(digit.shape)
    return (rows * digit).sum() / digit.sum(), (columns * digit).sum() / digit.sum()


def box(digit: np.ndarray) -> tuple[int, int]:
    """Height and width of the ink."""
    rows, columns = np.nonzero(digit > 25)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


LIKE = {
    "light on dark": png(drawn(0, 255)),
    "grey on grey": png(drawn(200, 60)),
    "light on grey": png(drawn(150, 250)),
    "dark on grey": png(drawn(110, 10)),
    "elsewhere": png(drawn(at=(180, 70))),
    "on larger paper": png(drawn(size=(900, 700), at=(500, 400))),
    "cut to the ink": png(drawn().crop(ImageOps.invert(drawn()).getbbox())),
    "colours": png(ImageOps.colorize(drawn(), "navy", "ivory")),
    "dark on nothing": png(on_nothing(0)),
    "light on nothing": png(on_nothing(255)),
    "palette": png(drawn().convert("P")),
    "black and white": png(drawn().convert("1")),
    "JPEG": png(drawn(), "JPEG", quality=85),
    "JPEG of light on dark": png(drawn(0, 255), "JPEG", quality=85),
}


# Pictures of digits.


def test_a_picture_is_scaled_and_centred_as_mnist_was():
    digit = prepared(png(drawn()))
    assert max(box(digit)) == 20
    assert digit.max() == 255 and digit[0].max() == digit[:, 0].max() == 0
    assert all(abs(place - 13.5) <= MASS_APART for place in centre(digit))
    tall, wide = box(prepared(png(drawn().rotate(90, expand=True, fillcolor=255))))
    assert (wide, tall) == box(digit)


@pytest.mark.parametrize("kind", LIKE)
def test_paper_ink_place_and_format_make_no_difference(kind):
    apart = np.abs(prepared(LIKE[kind]) - prepared(png(drawn())))
    assert apart.max() <= GREYS_APART or apart.mean() <= 2


def test_what_has_mnists_size_is_taken_as_it_is():
    greys = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8) // 2
    np.testing.assert_array_equal(prepared(png(Image.fromarray(greys))), greys)
    np.testing.assert_array_equal(prepared(png(Image.fromarray(255 - greys))), greys)


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (5, 300), (640, 480)])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_picture_has_no_ink(size, grey):
    digit = prepared(png(Image.new("L", size, grey)))
    assert digit.shape == (28, 28)
    assert digit.max() == (min(grey, 255 - grey) if size == (28, 28) else 0)


def test_a_transparent_blank_picture_has_no_ink():
    assert prepared(png(Image.new("RGBA", (100, 80), (0, 0, 0, 0)))).max() == 0


@pytest.mark.parametrize("size", [(2, 1), (1, 9), (3000, 2), (29, 28)])
def test_a_picture_of_any_shape_is_made_into_a_digit(size):
    image = Image.new("L", size, 255)
    image.putpixel((0, 0), 0)
    digit = prepared(png(image))
    assert digit.max() > 0


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The server with a network of no training: what it answers is the same, however it is asked."""
    return served(tmp_path_factory, mnist_model, MnistHyperparameters(), mnist_serving, DIGITS)


def served(tmp_path_factory, model, hyperparameters, serving, schema) -> Servable:
    folder, module = tmp_path_factory.mktemp("saved"), tf.Module()
    module.network = model.build(hyperparameters, schema)
    tf.saved_model.save(module, str(folder), signatures=serving.signatures(module.network, schema))
    return Servable(folder)


@pytest.fixture(scope="module")
def greys() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (28, 28), np.uint8)


def close(one: dict, other: dict) -> None:
    assert {**one, "probabilities": 0, "confidence": 0} == {**other, "probabilities": 0, "confidence": 0}
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-6)


def test_the_classic_request_is_answered_as_the_picture_is(digits, greys):
    picture = {"bytes_inputs": {"b64": base64.b64encode(png(Image.fromarray(greys))).decode()}, "key": "a"}
    classic = {"inputs": (greys / 255.0).ravel().tolist(), "key": "a"}
    (answer,) = digits.predict([picture])
    assert set(answer) == {"class", "confidence", "probabilities", "key"}
    assert answer["key"] == "a" and answer["class"] in DIGITS["classes"]
    assert answer["confidence"] == pytest.approx(max(answer["probabilities"]))
    assert DIGITS["classes"][int(np.argmax(answer["probabilities"]))] == answer["class"]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5) and len(answer["probabilities"]) == 10
    close(answer, digits.predict([classic])[0])
    close(answer, digits.predict(json.loads(json.dumps([classic])), {"signature_name": "classic"})[0])
    bare = digits.predict([picture["bytes_inputs"], picture["bytes_inputs"]])
    close({**answer, "key": ""}, bare[1])
    close({**answer, "key": ""}, digits.predict([classic["inputs"]])[0])


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"inputs": [0.0] * 783}, "instance 1, input 'inputs': shape (783,), needs (784,)"),
        (
            {"inputs": [0.0] * 783 + [float("nan")]},
            "instance 1, input 'inputs': needs a number that fits float32, got nan",
        ),
        ({"inputs": [0.0] * 783 + ["0"]}, "instance 1, input 'inputs': needs a number, got a string"),
        ({"bytes_inputs": "x"}, "instance 1: no input 'bytes_inputs'; the inputs are inputs, key"),
    ],
)
def test_a_bad_digit_is_named(digits, instance, message):
    with pytest.raises(BadRequest) as error:
        digits.predict([{"inputs": [0.0] * 784}, instance])
    assert str(error.value) == message


@pytest.mark.parametrize("content", [b"", b"no picture", png(drawn())[:200], b"\xff\xd8\xff\xe0"])
def test_bytes_that_are_no_picture_are_named(digits, content):
    good, bad = ({"bytes_inputs": {"b64": base64.b64encode(data).decode()}} for data in (png(drawn()), content))
    with pytest.raises(BadRequest, match=r"^instance 1: "):
        digits.predict([good, bad])


# Irises.


@pytest.fixture(scope="module")
def irises(tmp_path_factory):
    return served(tmp_path_factory, iris_model, IrisHyperparameters(), iris_serving, IRISES)


FLOWER = [5.9, 3.0, 4.2, 1.5]
NAMED = dict(zip(iris_data.NAMES, FLOWER, strict=True))


@pytest.mark.parametrize(
    "instance",
    [
        dict(reversed(NAMED.items())),
        {**NAMED, "sepal_width": 3},
        FLOWER,
        {"numbers": FLOWER},
        {"csv_row": "5.9,3.0,4.2,1.5"},
        {"csv_row": " 5.9, 3, 4.2, 1.5 "},
        {"csv_row": '"5.9","3.0","4.2","1.5"'},
        "5.9,3.0,4.2,1.5",
    ],
)
def test_the_same_flower_gets_the_same_answer_in_every_form(irises, instance):
    (expected,) = irises.predict([NAMED])
    assert set(expected) == {"class", "class_id", "confidence", "probabilities", "warning", "key"}
    assert expected["class"] == iris_data.CLASSES[expected["class_id"]]
    assert expected["class_id"] == np.argmax(expected["probabilities"])
    assert expected["warning"] == ""
    close(irises.predict([instance])[0], expected)


@pytest.mark.parametrize("instance", [NAMED, {"numbers": FLOWER}, {"csv_row": "5.9,3.0,4.2,1.5"}])
def test_keys_pass_through(irises, instance):
    answers = irises.predict([{**instance, "key": "a"}, instance, {**instance, "key": "c"}])
    assert [answer["key"] for answer in answers] == ["a", "", "c"]


def test_numbers_outside_the_training_rows_are_warned_of(irises):
    inside = TRAINING.tolist()
    answers = irises.predict([*inside, [8.0, 3.0, 3.8, 1.2], [4.2, 3.0, 3.8, 9.0]])
    assert [answer["warning"] for answer in answers[: len(inside)]] == [""] * len(inside)
    assert answers[3]["warning"] == "sepal_length 8 is outside 4.3 to 7.9 of the training data"
    assert answers[4]["warning"] == (
        "sepal_length 4.2 is outside 4.3 to 7.9 of the training data; "
        "petal_width 9 is outside 0.1 to 2.5 of the training data"
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5.9,3.0,4.2", "Expect 4 fields but have 3"),
        ("5.9,3.0,4.2,1.5,setosa", "Expect 4 fields but have 5"),
        ("5.9,3.0,four,1.5", "Field 2 in record 0 is not a valid float: four"),
        ("5.9,3.0,,1.5", "Field 2 is required but missing"),
        ("5.9;3.0;4.2;1.5", "Expect 4 fields but have 1"),
        ("5.9,3.0,nan,1.5", "a number is infinite or none"),
        ("5.9,3.0,1e99,1.5", "a number is infinite or none"),
        ("", "Expect 4 fields but have 0"),
        ('"5.9,3.0,4.2,1.5', "Quoted field has to end"),
        ("5.9,3.0,4.2,1.5\n5.9,3.0,4.2,1.5", "CRLFs"),
    ],
)
def test_a_malformed_row_is_400_with_the_instance(irises, row, message):
    from starlette.testclient import TestClient

    from images.server.app import app

    client = TestClient(app(irises, "/health", "/predict"))
    good = {"csv_row": "5.9,3.0,4.2,1.5"}
    answer = client.post("/predict", json={"instances": [good, good, {"csv_row": row}]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("instance 2: ") and message in answer.json()["error"]
    assert client.post("/predict", json={"instances": [good]}).status_code == 200


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({"sepal_length": 5.9}, "instance 0: input 'petal_length' is missing; the inputs are key, petal_length"),
        ({**NAMED, "sepal_lenght": 5.9}, "instance 0: no input 'sepal_lenght'; the inputs are key, petal_length"),
        ({**NAMED, "petal_width": None}, "instance 0, input 'petal_width': needs a number, got null"),
        (FLOWER[:3], "instance 0, input 'numbers': shape (3,), needs (4,)"),
        ([*FLOWER[:3], float("inf")], "instance 0, input 'numbers': needs a number that fits float32, got inf"),
        ([*FLOWER[:3], 10**400], "instance 0, input 'numbers': needs a number that fits float32, got 1000"),
        ([*FLOWER[:3], 1e99], "instance 0, input 'numbers': needs a number that fits float32, got 1e+99"),
        ({"csv_row": 7}, "instance 0, input 'csv_row': needs a string"),
        (7, "instance 0: must be an object with key, petal_length"),
    ],
)
def test_a_bad_flower_is_named(irises, instance, message):
    with pytest.raises(BadRequest) as error:
        irises.predict([instance])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("system", ["crnn", "mnist", "iris", "ddsm", "detection"])
def test_the_answer_that_monitors_compare_is_the_one_that_endpoints_give(system):
    assert roles.load(system, "data").data({}).answer == roles.load(system, "serving").ANSWER
