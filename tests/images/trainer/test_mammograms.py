"""Protects ddsm's ingest: every source form gives the same pictures, labels and patients, and each fault its reason."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from images.executor import UserError
from images.trainer import records, splits
from images.trainer.candidates import Candidate, file_instance
from images.trainer.ingest import ingest
from images.trainer.systems.ddsm import data
from tests.images.trainer.mammograms import HEIGHT, WIDTH, dicom, film, png, read

SIZE = {"height": HEIGHT, "width": WIDTH}
SHARED = Path(__file__).parents[4] / "shared" / "data"
HEADER = "patient_id,{},left or right breast,image view,image file path\n"
FILMS = [
    (f"P_{number:05d}", side, view) for number in range(1, 13) for side in ("LEFT", "RIGHT") for view in ("CC", "MLO")
]

# As the published tables have them, read by hand: density, side, view, and whether the breast is on the film's right.
PUBLISHED = {
    "P_00041_LEFT_CC": (1, "LEFT", "CC", 0),
    "P_00041_LEFT_MLO": (1, "LEFT", "MLO", 0),
    "P_00127_RIGHT_CC": (2, "RIGHT", "CC", 0),
    "P_00127_RIGHT_MLO": (2, "RIGHT", "MLO", 0),
    "P_00202_RIGHT_CC": (1, "RIGHT", "CC", 1),
    "P_00202_RIGHT_MLO": (1, "RIGHT", "MLO", 1),
}


def density(patient: str) -> int:
    return int(patient[2:]) % 4 + 1


def case(patient: str, side: str, view: str, kind: str = "Mass") -> str:
    """A film's name in the archive; the last three patients are for testing."""
    return f"{kind}-{'Test' if patient > 'P_00009' else 'Training'}_{patient}_{side}_{view}"


def picture(number: int, film_of: tuple[str, str, str]) -> np.ndarray:
    return film(number, mirrored=film_of[1] == "RIGHT")


def described(folder: Path, column: str = "breast_density", suffix: str = ".png") -> Path:
    """The archive's form: tables beside images named by case."""
    folder.mkdir()
    lines: dict[str, list[str]] = {"Test": [], "Training": []}
    for number, each in enumerate(FILMS):
        name = case(*each)
        (folder / f"{name}{suffix}").write_bytes((png if suffix == ".png" else dicom)(picture(number, each)))
        patient, side, view = each
        line = f"{patient},{density(patient)},{side},{view},{name}/1.2/000000.dcm\n"
        lines["Test" if "-Test_" in name else "Training"] += [line] * (1 + number % 2)  # Several findings, one film.
    for part, found in lines.items():
        (folder / f"mass_case_description_{part}.csv").write_text(HEADER.format(column) + "".join(found))
    return folder


def named(folder: Path) -> Path:
    """The tutorial's form: the density begins the name."""
    folder.mkdir()
    for number, each in enumerate(FILMS):
        (folder / f"{density(each[0])}_{case(*each)}.png").write_bytes(png(picture(number, each)))
    return folder


def recorded(folder: Path) -> Path:
    """The tutorial's TFRecords."""
    folder.mkdir()
    parts: dict[str, list[bytes]] = {"train": [], "test": []}
    for number, each in enumerate(FILMS):
        values = {"image": picture(number, each).astype("<f4").tobytes(), "label": [density(each[0]) - 1]}
        parts["test" if "-Test_" in case(*each) else "train"].append(records.example(records.features(values)))
    for part, found in parts.items():
        records.write(folder / f"{part}.tfrecords", found)
    return folder


def rejects(examples: Path) -> dict[str, str]:
    with open(examples / "rejects.csv", newline="") as file:
        return {row["location"]: row["reason"] for row in csv.DictReader(file)}


def pictures_and_labels(examples: Path) -> Counter:
    return Counter((example["image"][0], example["label"][0], example["mirrored"][0]) for example in read(examples))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    return folder / "examples", ingest("ddsm", described(folder / "source"), folder / "examples", SIZE)


def test_all_forms_give_the_same_examples(ingested, tmp_path):
    examples, _ = ingested
    wanted = pictures_and_labels(examples)
    assert len(wanted) == len(FILMS)
    others = [named(tmp_path / "named"), recorded(tmp_path / "recorded")]
    others += [described(tmp_path / "dicom", "breast density", ".dcm")]
    for source in others:
        ingest("ddsm", source, tmp_path / f"{source.name}-examples", SIZE)
        assert pictures_and_labels(tmp_path / f"{source.name}-examples") == wanted, source.name


def test_a_patient_is_in_one_split_and_the_official_test_split_is_kept(ingested):
    examples, schema = ingested
    patients = {split: {example["patient"][0] for example in read(examples, split)} for split in splits.SPLITS}
    assert patients["test"] == {b"P_00010", b"P_00011", b"P_00012"}
    assert sum(map(len, patients.values())) == 12 and all(patients.values())
    assert schema["counts"] == {
        "train": 20,
        "validation": 16,
        "test": 12,
        "rejected": 0,
    }
    assert schema["split_by"] == "patient"


def test_breasts_are_against_the_left_edge_and_the_example_says_what_was_done(ingested):
    for example in read(ingested[0]):
        greys = np.frombuffer(example["image"][0], np.uint8).reshape(HEIGHT, WIDTH)
        assert greys[:, : WIDTH // 2].sum() > greys[:, WIDTH // 2 :].sum()
        assert example["mirrored"][0] == (example["side"][0] == b"RIGHT")
        assert example["key"][0] == b"_".join(example[name][0] for name in ("patient", "side", "view"))


def test_pixels_and_weights_are_those_of_the_training_split(ingested):
    examples, schema = ingested
    greys = {
        split: np.concatenate([np.frombuffer(example["image"][0], np.uint8) for example in read(examples, split)])
        for split in splits.SPLITS
    }
    assert schema["pixels"]["mean"] == pytest.approx(greys["train"].mean())
    assert schema["pixels"]["deviation"] == pytest.approx(greys["train"].std())
    assert schema["pixels"]["mean"] != pytest.approx(np.concatenate(list(greys.values())).mean(), abs=1e-9)
    weights = Counter()
    for example in read(examples, "train"):
        weights[example["label"][0]] += example["weight"][0]
    assert max(weights.values()) == pytest.approx(min(weights.values()))
    assert sum(weights.values()) == pytest.approx(schema["counts"]["train"])


def test_samples_of_large_files_are_what_the_network_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "LARGEST", 100)
    ingest("ddsm", described(tmp_path / "source"), tmp_path / "examples", SIZE)
    lines = [json.loads(line) for line in (tmp_path / "examples" / "samples.jsonl").read_text().splitlines()]
    sent = {line["key"].encode(): base64.b64decode(line["bytes_inputs"]["b64"]) for line in lines}
    tested = read(tmp_path / "examples", "test")
    assert len(sent) == len(tested) == 12
    for example in tested:
        form = data.data(SIZE)
        features = form.features(Candidate("", "", ""), form.decoded(sent[example["key"][0]]))
        assert (features["image"], features["mirrored"]) == (example["image"][0], [0])


def test_each_fault_has_its_reason(tmp_path):
    source = described(tmp_path / "source")
    table = source / "mass_case_description_Training.csv"
    extra = {
        "P_00020,0,LEFT,CC,Mass-Training_P_00020_LEFT_CC/x.dcm": png(film(90)),
        "P_00021,5,LEFT,CC,Mass-Training_P_00021_LEFT_CC/x.dcm": png(film(91)),
        "P_00022,2,LEFT,CC,Mass-Training_P_00022_LEFT_CC/x.dcm": png(film(92)),
        "P_00023,2,LEFT,CC,Mass-Training_P_00023_LEFT_CC/x.dcm": b"no picture at all",
        "P_00024,2,LEFT,CC,Mass-Training_P_00024_LEFT_CC/x.dcm": png(np.full((64, 48), 7, np.uint8)),
        "P_00010,3,LEFT,XCC,Mass-Training_P_00010_LEFT_XCC/x.dcm": png(film(93)),
        "P_00025,2,LEFT,CC,Mass-Training_P_00025_LEFT_CC/x.dcm": dicom(film(94), frames=2),
        "P_00026,2,LEFT,CC,Mass-Training_P_00026_LEFT_CC/x.dcm": dicom(film(95))[:-3000],
        "P_00022,3,LEFT,CC,Calc-Training_P_00022_LEFT_CC/x.dcm": b"",
        "P_00099,3,LEFT,CC,Mass-Training_P_00099_LEFT_CC/x.dcm": b"",
    }
    with table.open("a") as file:
        for line, content in extra.items():
            file.write(f"{line}\n")
            if content:
                suffix = ".dcm" if b"DICM" in content[:140] else ".png"
                (source / f"{line.split(',')[4].partition('/')[0]}{suffix}").write_bytes(content)
    (source / "unknown.png").write_bytes(png(film(96)))
    lesion = source / "Mass-Training_P_00001_LEFT_CC_1"
    lesion.mkdir()
    (lesion / "000000.png").write_bytes(png(film(97)))
    schema = ingest("ddsm", source, tmp_path / "examples", SIZE, max_reject_share=0.3)
    found = {
        location.partition("_P_")[2][:5] or location: why for location, why in rejects(tmp_path / "examples").items()
    }
    assert found["00020"] == "density 0"
    assert found["00021"] == "density outside 1-4: '5'"
    assert found["00022"] == "rows disagree on the density: 2 and 3"
    assert found["00023"] == "not a PNG or JPEG image"
    assert found["00024"] == "nothing in the image: every pixel is 7 of 255"
    assert found["00010"] == "its patient is among the source's test inputs"
    assert found["00025"] == "DICOM file without one grey image: MONOCHROME2"
    assert found["00026"].startswith("damaged DICOM file: ")
    assert found["00099"] == "described, but not in the folder"
    assert found["unknown.png"] == "no case description"
    assert len(found) == 10
    assert schema["counts"]["test"] == 12


def test_a_film_whose_middle_is_even_is_not_blank():
    greys = film(1)
    greys[HEIGHT // 2] = 7
    formed = data.data(SIZE)
    assert any(formed.features(Candidate("", "", ""), formed.decoded(png(greys)))["image"])


def test_dicom_that_nothing_here_decodes_is_named(tmp_path):
    whole = dicom(film(1), syntax="1.2.840.10008.1.2.1")
    found = pydicom.dcmread(io.BytesIO(whole))
    found.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    found.PixelData = encapsulate([b"\xff\xd8\xff\xf7" + b"\0" * 100])
    file = io.BytesIO()
    found.save_as(file)
    source = described(tmp_path / "source")
    (source / f"{case(*FILMS[0])}.png").unlink()
    (source / f"{case(*FILMS[0])}.dcm").write_bytes(file.getvalue())
    ingest("ddsm", source, tmp_path / "examples", SIZE)
    reason = "DICOM encoding that cannot be read here: JPEG-LS Lossless Image Compression; store it uncompressed, "
    assert list(rejects(tmp_path / "examples").values()) == [reason + "in RLE or as JPEG 2000"]


def test_compressed_dicom_is_read_and_sent_as_the_picture_that_the_network_reads():
    greys = film(1)
    whole = pydicom.dcmread(io.BytesIO(dicom(greys)))
    whole.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    whole.save_as(rle := io.BytesIO())
    Image.fromarray(greys).save(coded := io.BytesIO(), "JPEG2000", irreversible=False, no_jp2=True)
    whole = pydicom.dcmread(io.BytesIO(dicom(greys)))
    whole.file_meta.TransferSyntaxUID, whole.PixelData = pydicom.uid.JPEG2000Lossless, encapsulate([coded.getvalue()])
    whole.save_as(jpeg := io.BytesIO())
    formed = data.data(SIZE)
    small = formed.features(Candidate("", "", ""), formed.decoded(dicom(greys)))["image"]
    assert formed.instance(dicom(greys)) == file_instance(dicom(greys))
    for compressed in (rle.getvalue(), jpeg.getvalue()):
        assert formed.features(Candidate("", "", ""), formed.decoded(compressed))["image"] == small
        sent = formed.decoded(formed.received(formed.instance(compressed)))
        assert np.asarray(sent.image, np.uint8).tobytes() == small


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"notes.txt": b"nothing"}, {}, "none of its 1 files is a case description"),
        ({"a.csv": b"breast_density,image file path\n3,x/y.dcm\n"}, {}, "a.csv: no column 'patient_id'"),
        ({"train.tfrecord": b"damaged beyond repair"}, {}, "record 1: its length is damaged"),
        ({"1_a.png": b"x"}, {"height": 4}, "--height=4: give at least 8 pixels"),
    ],
)
def test_a_mistake_is_one_message(tmp_path, files, settings, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        ingest("ddsm", tmp_path, tmp_path / "examples", settings)
    assert not (tmp_path / "examples").exists()


def test_a_record_of_another_size_is_rejected(tmp_path):
    source = recorded(tmp_path / "source")
    values = {"image": np.zeros(5, "<f4").tobytes(), "label": [1]}
    records.write(source / "more.tfrecords", [records.example(records.features(values))])
    ingest("ddsm", source, tmp_path / "examples", SIZE)
    assert rejects(tmp_path / "examples") == {
        "more.tfrecords": "wrong size: image has 20 bytes, not 12,288: 4 x 64 x 48"
    }


@pytest.mark.skipif(not (SHARED / "cbis_samples").is_dir(), reason="the published mammograms are not here")
def test_published_mammograms_get_the_published_densities(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for file in (*(SHARED / "cbis_ddsm_csv").glob("*.csv"), *(SHARED / "cbis_samples").glob("*.png")):
        (source / file.name).write_bytes(file.read_bytes())
    # The six are all for testing; what to learn from is drawn, under the names of described training films.
    with open(SHARED / "cbis_ddsm_csv" / "mass_case_description_train_set.csv", newline="") as table:
        names = sorted({row["image file path"].partition("/")[0] for row in csv.DictReader(table)})[:24]
    for number, name in enumerate(names):
        (source / f"{name}.png").write_bytes(png(film(number)))
    schema = ingest("ddsm", source, tmp_path / "examples", {})
    found = {
        example["key"][0].decode(): (
            example["label"][0] + 1, example["side"][0].decode(), example["view"][0].decode(), example["mirrored"][0]
        )
        for example in read(tmp_path / "examples", "test")
    }  # fmt: skip
    assert found == PUBLISHED
    assert schema["counts"]["train"] + schema["counts"]["validation"] == len(names)
    assert set(schema["reject_reasons"]) == {"described, but not in the folder"}
    kept = json.loads((tmp_path / "examples" / "schema.json").read_text())
    assert kept["image"] == {"height": 128, "width": 95, "channels": 1}
