"""Protects monitors of pictures: what is counted of a picture, and drift from the training split told from its log."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.cloud.aiplatform_v1.types import DeployedModel, Endpoint
from PIL import Image, ImageDraw

from images.executor import UserError
from images.launcher import requests_log
from images.launcher.snapshot import STORAGE
from images.trainer import roles, skew
from images.trainer.candidates import Rejection
from images.trainer.ingest import ingest
from images.trainer.pictures import COUNTED, counted
from images.trainer.sample import sample
from localvertex.api import bigquery_frontend
from localvertex.api.bigquery_frontend import BigQueryFrontend
from localvertex.home import Home
from localvertex.services.request_log import RequestLog

SYSTEMS = ("crnn", "mnist", "ddsm", "detection")
TABLE = "bq://p.requests.mnist"
SIDE = 28


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sent(image: Image.Image) -> dict[str, Any]:
    return {"bytes_inputs": {"b64": base64.b64encode(png(image)).decode()}, "key": "a"}


def digit(seed: int, paper: int = 0, side: int = SIDE) -> Image.Image:
    """A stroke of its own kind, light on dark unless the paper is light."""
    draw = np.random.default_rng(seed)
    image = Image.new("L", (side, side), paper)
    line = [tuple(point) for point in draw.uniform(0.2 * side, 0.8 * side, (4, 2))]
    ImageDraw.Draw(image).line(
        line, fill=abs(paper - int(draw.integers(180, 256))), width=side // int(draw.integers(8, 12))
    )
    return image


def test_what_is_counted_of_a_picture():
    image = Image.new("L", (40, 10), 255)
    image.paste(51, (0, 0, 10, 10))
    brightness, contrast, ink, width, height = counted(image)
    greys = np.asarray(image) / 255
    assert (brightness, contrast) == pytest.approx((greys.mean(), greys.std()))
    assert (ink, width, height) == (0.25, 40, 10)
    negative = counted(Image.fromarray(255 - np.asarray(image)))
    assert negative == pytest.approx((1 - brightness, contrast, ink, width, height))
    assert counted(image.convert("RGB")) == pytest.approx(counted(image))
    deep = Image.fromarray(np.asarray(image).astype(np.float32) * 257)
    assert counted(deep, 65535) == pytest.approx(counted(image))
    assert counted(Image.new("L", (3, 2), 255))[:3] == pytest.approx((1, 0, 0))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_request_is_counted_as_the_file_was_that_it_holds(system):
    form = roles.load(system, "data").data({})
    assert form.columns == COUNTED
    original = png(digit(1, side=96))
    assert form.received(form.instance(original)) == original
    assert form.received(form.instance(original)["bytes_inputs"]) == original
    assert form.row(form.decoded(original)) == pytest.approx(counted(digit(1, side=96)))
    for instance in ({}, {"bytes_inputs": "x"}, {"bytes_inputs": {"b64": "ä"}}, [1], "x", None):
        with pytest.raises(Rejection):
            form.received(instance)


def test_a_digit_in_the_classic_form_is_counted_too():
    role = roles.load("mnist", "data")
    form, image = role.data({}), digit(2)
    classic = role.classic_instance(sent(image))
    for sent_so in (classic, classic["inputs"]):
        assert form.row(form.decoded(form.received(sent_so))) == pytest.approx(counted(image))
    for inputs in ([1, 2], "x", None, [["a"] * SIDE] * SIDE):
        with pytest.raises(Rejection):
            form.received({"inputs": inputs})


@pytest.mark.parametrize(
    ("system", "answers"),
    [
        ("crnn", {"": 0, "word": 4}),
        ("mnist", {"0": 0, "7": 7}),
        ("iris", {"setosa": 0, "virginica": 2}),
        ("ddsm", {"1": 1, "4": 4}),
        ("detection", {"nothing": 0, "cat": 1, "cat, cat, dog": 3}),
    ],
)
def test_what_is_counted_of_an_answer(system, answers):
    form = roles.load(system, "data").data({})
    assert {answer: form.number(answer) for answer in answers} == answers


@pytest.mark.parametrize("system", ["crnn", "ddsm", "detection"])
def test_ingest_writes_what_requests_are_compared_with(system, tmp_path):
    sample(system, tmp_path / "source", count=60, processes=1)
    schema = ingest(system, tmp_path / "source", tmp_path / "examples", {}, max_reject_share=0.5, processes=1)
    assert tuple(schema["columns"]) == COUNTED
    for column in (*schema["columns"].values(), schema["answer"]):
        assert sum(column["shares"]) == pytest.approx(1)
    assert 0 <= schema["columns"]["ink"]["minimum"] <= schema["columns"]["ink"]["maximum"] <= 0.5
    # Samples of the test split, sent to an endpoint and answered right, are few, and of other writers or patients.
    lines = [json.loads(line) for line in (tmp_path / "examples" / "samples.jsonl").read_text().splitlines()]
    answer = roles.load(system, "data").data({}).answer
    logged = [{"instance": line, "prediction": {answer: line.pop("label")}} for line in lines]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in logged))
    found = compared(tmp_path / "examples", tmp_path / "log.jsonl", tmp_path, system, threshold=1.0)
    assert found["largest_distance"] < 0.9, found
    assert all(found[f"{name}_missing"] == 0 for name in (*COUNTED, "answer"))


def test_of_many_pictures_enough_are_counted_and_always_the_same(tmp_path, monkeypatch):
    for seed in range(120):
        file = tmp_path / "source" / str(seed % 10) / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        digit(seed).save(file)
    role = roles.load("mnist", "data")
    schemas = []
    for name, enough, processes in (("all", 1000, 1), ("some", 30, 1), ("again", 30, 2)):
        monkeypatch.setattr(role.Data, "enough", enough)
        schemas.append(ingest("mnist", tmp_path / "source", tmp_path / name, {}, processes=processes))
    everything, some, again = schemas
    assert everything["columns"]["ink"]["examples"] == everything["counts"]["train"]
    assert 10 < some["columns"]["ink"]["examples"] < 50
    assert some == again and some["answer"] == everything["answer"]


def compared(examples: Path, data: Path, folder: Path, system: str = "mnist", threshold: float = 0.2) -> dict[str, Any]:
    return skew.skew(system, str(examples), str(data), f"{folder}/metrics.json", f"{folder}/report.html", threshold)


class Logged:
    """An endpoint whose requests localvertex logs, as far as the stage asks for it."""

    parent = "projects/p/locations/l"

    def __init__(self, folder: Path, schema: str, share: float) -> None:
        config = {
            "enabled": share > 0,
            "sampling_rate": share,
            "bigquery_destination": {"output_uri": TABLE},
        }
        self.endpoint = Endpoint(name=f"{self.parent}/endpoints/1", predict_request_response_logging_config=config)
        self._log = RequestLog(Home(folder / "state").create())
        self._tables = BigQueryFrontend(self._log)
        self._schema = schema

    def ask(self, image: Image.Image, answer: str) -> None:
        self._log.note(self.endpoint, DeployedModel(id="7"), [sent(image)], [{"class": answer, "confidence": 0.9}])

    def every(self, name: str, collection: str, **query: str) -> list[dict[str, Any]]:
        return [{"name": self.endpoint.name, "displayName": "mnist"}]

    def get(self, name: str, **query: str) -> dict[str, Any]:
        if "/models/" in name:
            return {"name": name, "versionId": "1", "artifactUri": "gs://b/model", "containerSpec": {"imageUri": "i"}}
        config = self.endpoint.predict_request_response_logging_config
        return {
            "name": name,
            "deployedModels": [{"id": "7", "model": f"{self.parent}/models/1", "modelVersionId": "1"}],
            "trafficSplit": {"7": 100},
            "predictRequestResponseLoggingConfig": {
                "enabled": config.enabled,
                "bigqueryDestination": {"outputUri": TABLE},
            },
        }

    def call(self, method: str, url: str, body: Any = None, **query: str) -> dict[str, Any]:
        if url.startswith(STORAGE):
            found: dict[str, Any] = json.loads(self._schema)
            return found
        try:
            return self._tables.answer(method, url.removeprefix("https://bigquery.googleapis.com"), query, {})
        except Exception as error:
            raise requests_log.ServiceError(str(error), 404) from None


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> Path:
    """Examples of strokes, light on dark."""
    folder = tmp_path_factory.mktemp("strokes")
    for seed in range(200):
        file = folder / "source" / str(seed % 10) / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        digit(seed).save(file)
    ingest("mnist", folder / "source", folder / "examples", {}, processes=1)
    return folder / "examples"


@pytest.fixture
def logging(examples, tmp_path):
    """An endpoint that logs all requests, with the schema of the examples in its model."""
    return Logged(tmp_path, (examples / "schema.json").read_text(), share=1.0)


def gathered(vertex: Logged, folder: Path, most: int = 1000) -> Path:
    """What the requests stage writes, as the skew stage reads it."""
    found = requests_log.gather(vertex, "mnist", most)  # type: ignore[arg-type]
    (folder / "requests.jsonl").write_text("".join(f"{line}\n" for line in found.lines))
    (folder / "schema.json").write_text(found.schema)
    return folder / "requests.jsonl"


def test_requests_like_the_training_digits_pass(logging, tmp_path):
    for seed in range(300, 450):
        logging.ask(digit(seed), str(seed % 10))
    found = compared(tmp_path, gathered(logging, tmp_path), tmp_path)
    assert found["passed"] is True and found["new_rows"] == 150, found
    assert set(found) >= {f"{name}_distance" for name in (*COUNTED, "answer")}


@pytest.mark.parametrize(
    ("change", "drifted"),
    [
        ({"paper": 255}, {"brightness"}),
        ({"side": 64}, {"width", "height"}),
        ({"answer": "3"}, {"answer"}),
    ],
)
def test_other_requests_are_told_by_what_is_other_about_them(logging, tmp_path, change, drifted):
    answer = change.pop("answer", "")
    for seed in range(300, 400):
        logging.ask(digit(seed, **change), answer or str(seed % 10))
    found = compared(tmp_path, gathered(logging, tmp_path), tmp_path)
    assert found["passed"] is False
    assert {name for name in (*COUNTED, "answer") if found[f"{name}_distance"] > 0.5} == drifted


def test_what_is_no_picture_is_missing(logging, tmp_path):
    logging.ask(digit(1), "1")
    path = gathered(logging, tmp_path)
    path.write_text(path.read_text() + '{"bytes_inputs": {"b64": "AAAA"}}\n{"inputs": [1, 2]}\n7\n')
    found = compared(tmp_path, path, tmp_path)
    assert {found[f"{name}_missing"] for name in (*COUNTED, "answer")} == {0.75}


def test_the_latest_requests_are_read_in_their_order(logging, tmp_path, monkeypatch):
    monkeypatch.setattr(requests_log, "_ROWS", 7)
    monkeypatch.setattr(bigquery_frontend, "_PAGE", 3)  # Of large rows an answer holds fewer than were asked for.
    for seed in range(40):
        logging.ask(digit(seed, side=8), str(seed % 10))
    lines = gathered(logging, tmp_path, most=25).read_text().splitlines()
    assert [json.loads(line)["prediction"]["class"] for line in lines] == [str(seed % 10) for seed in range(15, 40)]
    monkeypatch.setattr(requests_log, "MOST_BYTES", sum(map(len, lines[-4:])))
    assert gathered(logging, tmp_path, most=25).read_text().splitlines() == lines[-4:]


@pytest.mark.parametrize(("share", "told"), [(0.0, "logs no requests"), (1.0, "has logged no request yet")])
def test_nothing_logged_is_said_in_a_line_and_is_no_fault(tmp_path, share, told):
    found = requests_log.gather(Logged(tmp_path, "", share), "mnist", 10)  # type: ignore[arg-type]
    assert (found.lines, found.schema) == ((), "")
    assert told in found.told and "nothing to compare" in found.told and "\n" not in found.told


def test_an_endpoint_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(UserError, match="nothing is deployed there"):
        requests_log.gather(Logged(tmp_path, "", 0.0), "absent", 10)  # type: ignore[arg-type]
