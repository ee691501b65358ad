"""Protects detection's ingest: three source formats, each defect with its reason, boxes that follow their pictures."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from images.executor import UserError
from images.trainer import records
from images.trainer.ingest import ingest
from images.trainer.sample import sample
from images.trainer.sources import Source
from images.trainer.systems.detection import annotations, textproto
from images.trainer.systems.detection.annotations import Malformed
from images.trainer.systems.detection.boxes import Letterbox
from images.trainer.systems.detection.data import Data, data

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data is not here")
GOOD = ("cat", 11, 21, 60, 70)


def xml(*objects, file="", size=(100, 80), extra=""):
    described = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, left, top, right, bottom in objects
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation><filename>{file}</filename>{sides}{described}</annotation>"


def jpeg(seed=0, size=(100, 80)):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def written(folder, **described):
    """A source of VOC's layout: under each name an XML text, and a picture of its own."""
    for place in ("Annotations", "JPEGImages"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for number, (name, text) in enumerate(described.items()):
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(number))
    return folder


def plenty(folder, count=10):
    return written(folder, **{f"good{number}": xml(GOOD) for number in range(count)})


def rejects(examples):
    with (examples / "rejects.csv").open(newline="") as file:
        return [(row["location"], row["reason"]) for row in csv.DictReader(file)]


def stored(examples):
    found = {}
    for shard in sorted(examples.rglob("*.tfrecord")):
        for features in records.read(shard.read_bytes()):
            found[Path(features["key"][0].decode()).name] = {**features, "split": shard.parent.name}
    return found


def test_every_defect_is_listed_with_its_reason_and_place(tmp_path):
    source = plenty(tmp_path / "source")
    cases = {
        "outside": (xml(GOOD, ("cat", 200, 10, 230, 40)), "box outside the image"),
        "inverted": (xml(GOOD, ("cat", 60, 10, 30, 40)), "box inverted"),
        "empty": (xml(GOOD, ("cat", 31, 10, 30, 40)), "box empty"),
        "twice": (xml(GOOD, GOOD), "box listed twice"),
        "words": (xml(GOOD, ("cat", "left", 10, 30, 40)), "box without four numbers"),
        "infinite": (xml(GOOD, ("cat", "1e999", 10, 30, 40)), "box without four numbers"),
        "clipped": (xml(("cat", -20, 10, 130, 95)), "box reaches outside the image; clipped"),
        "unknown": (xml(GOOD, ("dog", 5, 5, 50, 50)), "unknown class"),
        "wrong_size": (xml(GOOD, size=(640, 480)), "wrong image size in the annotation"),
        "lost": (xml(("cat", 200, 10, 230, 40)), "no usable box"),
        "torn": ("<annotation><object>", "annotation cannot be read"),
        "no_voc": ("<other/>", "annotation cannot be read"),
        "damaged": (xml(GOOD), "damaged image"),
        "absent": (xml(GOOD), "missing file"),
    }
    written(source, **{name: text for name, (text, _) in cases.items()})
    (source / "JPEGImages" / "damaged.jpg").write_bytes(jpeg()[:400])
    (source / "JPEGImages" / "absent.jpg").unlink()
    (source / "labels.pbtxt").write_text("item {\n id: 1\n name: 'cat'\n}")
    schema = ingest("detection", source, tmp_path / "examples", {}, max_reject_share=1, processes=1)

    listed = rejects(tmp_path / "examples")
    for name, (_, reason) in cases.items():
        assert any(name in location and why.startswith(reason) for location, why in listed), (name, listed)
    used = {"outside", "inverted", "empty", "twice", "words", "infinite", "clipped", "unknown"}
    kept = stored(tmp_path / "examples")
    assert kept.keys() == {f"good{number}" for number in range(10)} | used
    assert schema["class_counts"] == {"cat": 18}
    assert schema["boxes"]["clipped"] == 1
    # What is only put right is listed, but is no input left out.
    assert schema["counts"]["rejected"] == len(listed) - 1


def test_too_many_bad_boxes_stop_it(tmp_path):
    source = plenty(tmp_path / "source", 4)
    written(source, bad=xml(GOOD, *[("cat", 60, 10, 30, 40 + number) for number in range(4)]))
    with pytest.raises(UserError, match=r"4 of 9 inputs rejected.*\n.*box inverted"):
        ingest("detection", source, tmp_path / "examples", {}, processes=1)


def test_flags_boxes_and_pictures_are_stored(tmp_path):
    source = plenty(tmp_path / "source", 6)
    flags = "<difficult>1</difficult><truncated>1</truncated>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    written(source, flagged=xml(("cat", 1, 1, 50, 80), extra=flags + part), background=xml())
    schema = ingest("detection", source, tmp_path / "examples", {"height": 64, "width": 64}, processes=1)
    kept = stored(tmp_path / "examples")
    flagged = kept["flagged"]
    assert (flagged["difficult"], flagged["truncated"]) == ([1], [1])
    # 100 x 80 in 64 x 64: 64 x 51, six rows below the upper edge.
    np.testing.assert_allclose(flagged["boxes"], [6, 0, 57, 32], atol=1e-5)
    assert flagged["size"] == [80, 100]
    assert kept["background"]["classes"] == [-1]
    assert schema["counts"]["rejected"] == 0
    canvas = np.frombuffer(flagged["image"][0], np.uint8).reshape(64, 64, 3)
    assert (canvas[:6] == 128).all()
    assert (canvas[57:] == 128).all()
    assert canvas[6:57].std() > 10


def test_a_picture_listed_twice_is_on_one_side_of_the_split(tmp_path):
    source = plenty(tmp_path / "source", 30)
    for number in range(10):
        (source / "JPEGImages" / f"good{number}.jpg").write_bytes(jpeg(1))
        (source / "Annotations" / f"good{number}.xml").write_text(xml(("cat", 5, 5, 40 + number, 40)))
    ingest("detection", source, tmp_path / "examples", {}, processes=1)
    assert len({each["split"] for key, each in stored(tmp_path / "examples").items() if int(key[4:]) < 10}) == 1


def test_image_sets_are_kept(tmp_path):
    source = plenty(tmp_path / "source", 9)
    sets = source / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("".join(f"good{number}\n" for number in range(5)))
    (sets / "val.txt").write_text("good5\ngood6\n")
    (sets / "test.txt").write_text("good7\ngood8\n")
    (sets / "cat_train.txt").write_text("good7 1\n")
    ingest("detection", source, tmp_path / "examples", {}, processes=1)
    splits = {key: each["split"] for key, each in stored(tmp_path / "examples").items()}
    assert splits == {
        f"good{number}": ["train", "validation", "test"][(number > 4) + (number > 6)] for number in range(9)
    }


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
    ],
)
def test_entities_are_refused(text):
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(Malformed, match="declares an entity"):
            annotations.of_voc(text.encode(encoding))


def test_an_unknown_encoding_is_malformed():
    with pytest.raises(Malformed, match="unknown encoding"):
        annotations.of_voc(b'<?xml version="1.0" encoding="none-such"?><annotation/>')


sides = st.integers(1, 3000)


@given(sides, sides, st.sampled_from([32, 64, 128, 320]), st.sampled_from([32, 128, 256]), st.data())
def test_boxes_map_into_the_canvas_and_back(rows, columns, height, width, draw):
    letterbox = Letterbox.of((rows, columns), (height, width))
    share = st.floats(0, 1)
    box = [draw.draw(share) * side for side in (rows, columns, rows, columns)]
    inside = np.array([letterbox.into(box)])
    assert (inside >= -1e-6).all()
    assert (inside[0] <= np.array([height, width, height, width]) + 1e-6).all()
    np.testing.assert_allclose(letterbox.back(inside), [box], atol=1e-6 * max(rows, columns))
    # Aspect is kept to within the rounding to whole pixels.
    assert abs(letterbox.scaled[0] * columns - letterbox.scaled[1] * rows) <= max(rows, columns)


def record(name, boxes=((0.25, 0.1, 0.75, 0.5),), seed=0):
    columns = list(zip(*boxes, strict=True))
    features = {f"image/object/bbox/{side}": columns[at] for at, side in enumerate(("ymin", "xmin", "ymax", "xmax"))}
    features |= {"image/encoded": jpeg(seed), "image/filename": name, "image/width": [100], "image/height": [80]}
    return records.example(records.features({**features, "image/object/class/text": "cat"}))


def test_records_of_the_object_detection_api_are_read(tmp_path):
    (tmp_path / "source").mkdir()
    records.write(tmp_path / "source" / "all.record", (record(f"{number}.jpg", seed=number) for number in range(5)))
    ingest("detection", tmp_path / "source", tmp_path / "examples", {"height": 64, "width": 64}, processes=1)
    kept = stored(tmp_path / "examples")
    assert len(kept) == 5
    for features in kept.values():
        np.testing.assert_allclose(features["boxes"], [6 + 0.25 * 51, 6.4, 6 + 0.75 * 51, 32], atol=1e-4)
    (sampled,) = (tmp_path / "examples" / "samples.jsonl").read_text().splitlines()
    assert json.loads(sampled)["label"] == "cat"


def test_a_damaged_record_file_is_the_callers_mistake(tmp_path):
    records.write(tmp_path / "all.record", [record("a.jpg")])
    whole = (tmp_path / "all.record").read_bytes()
    (tmp_path / "all.record").write_bytes(whole[:-9])
    with pytest.raises(UserError, match="cut short"):
        list(Data().candidates(Source(tmp_path)))


@pytest.mark.parametrize("setting", [{"height": 100}, {"width": 0}, {"height": 8192}])
def test_a_canvas_that_the_pyramid_does_not_fit_is_refused(setting):
    with pytest.raises(UserError, match="must be a multiple of 32"):
        data(setting)


def test_nothing_known_in_the_source_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"an annotation in VOC's XML or a \*\.record"):
        list(Data().candidates(Source(tmp_path)))


@pytest.mark.parametrize("text", ["item { id: 1 }", "item { id: 'x' name: 'a' }", "item {"])
def test_a_malformed_label_map_is_told(tmp_path, text):
    plenty(tmp_path, 1)
    (tmp_path / "labels.pbtxt").write_text(text)
    with pytest.raises(UserError, match="no label map"):
        list(Data().candidates(Source(tmp_path)))


def test_text_format():
    text = "# c\na: 1 b { c: 'x' \"y\" d: [1.5, 2] } e <f: true> g: NAME; h: -3"
    assert textproto.parse(text) == [
        ("a", 1),
        ("b", [("c", "xy"), ("d", 1.5), ("d", 2)]),
        ("e", [("f", True)]),
        ("g", "NAME"),
        ("h", -3),
    ]
    for wrong in ("a", "a {", "a: }", 'a: "b', "1: 2"):
        with pytest.raises(ValueError, match="line 1"):
            textproto.parse(wrong)


@real
def test_the_real_raccoons(tmp_path):
    schema = ingest("detection", SHARED / "raccoon", tmp_path / "examples", {}, processes=1)
    assert schema["classes"] == ["raccoon"]
    assert schema["class_counts"] == {"raccoon": 217}
    assert schema["counts"]["rejected"] == 0
    first = stored(tmp_path / "examples")["raccoon-1"]
    letterbox = Letterbox.of((417, 650), (128, 128))
    np.testing.assert_allclose(
        letterbox.back(np.array(first["boxes"]).reshape(-1, 4)[:1]), [[87, 80, 408, 522]], atol=0.01
    )


def features_of(data, source, candidate):
    return data.features(candidate, data.decoded(data.original(source, candidate)))


@real
def test_the_real_raccoons_as_records(tmp_path):
    (tmp_path / "test.record").write_bytes((SHARED / "raccoon" / "data" / "test.record").read_bytes())
    of_records = Data()
    listed = [each for each in of_records.candidates(Source(tmp_path)) if each.fault is None]
    assert len(listed) == 40
    features = features_of(of_records, Source(tmp_path), listed[0])
    # The picture is among those with XML, and has the same box there.
    of_xml, folder = Data(), Source(SHARED / "raccoon")
    (same,) = (
        other
        for each in list(of_xml.candidates(folder))
        if (other := features_of(of_xml, folder, each))["image"] == features["image"]
    )
    np.testing.assert_allclose(features["boxes"][:4], same["boxes"][:4], atol=0.6)


@real
def test_the_real_pets():
    """The breed is in the file's name; XML has the face, the trimap the whole animal, which holds the face."""
    source = Source(SHARED / "pets_sample")
    found = {}
    for faces_only in (True, False):
        pets = Data(faces_only=faces_only)
        listed = list(pets.candidates(source))
        assert sorted(each.label for each in listed) == [
            "Abyssinian", "British_Shorthair", "Russian_Blue", "Siamese", "pug",
        ]  # fmt: skip
        assert all(each.fault is None and each.location.startswith("images/") for each in listed)
        found[faces_only] = {each.label: features_of(pets, source, each)["boxes"] for each in listed}
    np.testing.assert_allclose(
        Letterbox.of((297, 300), (128, 128)).back(np.array([found[True]["Abyssinian"]])),
        [[50, 38, 179, 156]],
        atol=0.01,
    )
    for breed, face in found[True].items():
        animal = found[False][breed]
        assert animal[0] <= face[0] + 2
        assert animal[1] <= face[1] + 2
        assert animal[2] >= face[2] - 2
        assert animal[3] >= face[3] - 2


def test_the_samples_boxes_hold_the_ink(tmp_path):
    """The same bytes for the same seed; every box inside its picture."""
    for name in ("one", "other"):
        sample("detection", tmp_path / name, "objects", 6, seed=5, processes=1)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes() for file in files)
    listed = list(Data().candidates(Source(tmp_path / "one")))
    assert len(listed) == 6
    assert all(each.fault is None for each in listed)
