"""Protects the detector: augmented boxes stay on objects, the loss prefers what is right, answers are suppressed."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from images.trainer.systems.detection import augmentation, losses, metrics, model, report
from images.trainer.systems.detection.hyperparameters import Hyperparameters

SIDE = 64
SCHEMA = {"image": {"height": SIDE, "width": SIDE, "channels": 3}, "classes": ["circle", "digit"]}
FAR = Hyperparameters(zoom=3.0, stretch=0.5, flip=0.5, colour=0.0)


def framed(*boxes, most=3):
    """Targets of one picture."""
    rows = [[*box, 0, 1] for box in boxes] + [[0] * 6] * (most - len(boxes))
    return np.array([rows], np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.tuples(*[st.integers(0, SIDE - 12)] * 2), st.tuples(*[st.integers(10, 40)] * 2))
def test_a_box_stays_on_its_object(seed, corner, size):
    top, left = corner
    bottom, right = min(SIDE, top + size[0]), min(SIDE, left + size[1])
    image = np.full((1, SIDE, SIDE, 3), 128, np.uint8)
    image[:, top:bottom, left:right] = 255
    pixels, targets = augmentation.augment(
        tf.constant(image), tf.constant(framed((top, left, bottom, right))), tf.constant([seed, 7], tf.int64), FAR
    )
    box, there = targets.numpy()[0, 0, :4], targets.numpy()[0, 0, 5]
    rows, columns = (np.flatnonzero((pixels.numpy()[0, ..., 0] > 191).any(axis=axis)) for axis in (1, 0))
    if there:
        found = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        np.testing.assert_allclose(box, found, atol=1.6)
        assert (box >= 0).all()
        assert (box <= SIDE).all()
    else:  # Too little of it is left to be asked for.
        assert rows.size * columns.size <= 9 * (bottom - top) * (right - left) * augmentation.VISIBLE + 40


def test_augmenting_is_alike_for_the_same_seed_and_changes_nothing_when_told_so():
    image = tf.constant(np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3), np.uint8))
    targets = tf.constant(np.concatenate([framed((5, 6, 30, 40))] * 2))
    strong = dataclasses.replace(FAR, colour=1.0)
    one, other = (augmentation.augment(image, targets, tf.constant([1, 2], tf.int64), strong) for _ in range(2))
    for each, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(each, again)
    assert (one[0].numpy() != image.numpy()).any()
    still = Hyperparameters(zoom=1.0, stretch=0.0, flip=0.0, colour=0.0)
    same, boxes = augmentation.augment(image, targets, tf.constant([1, 2], tf.int64), still)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_allclose(boxes, targets, atol=1e-4)
    mirrored, boxes = augmentation.augment(
        image, targets, tf.constant([1, 2], tf.int64), dataclasses.replace(still, flip=1.0)
    )
    np.testing.assert_array_equal(mirrored, image[:, :, ::-1])
    np.testing.assert_allclose(boxes[0, 0, :4], [5, SIDE - 40, 30, SIDE - 6], atol=1e-4)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return model.build(Hyperparameters(width=8), SCHEMA)


@pytest.fixture(scope="module")
def rows(network):
    """What an untrained network gives for two pictures."""
    images = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3), np.uint8)
    return network(images, training=False).numpy()


def certain(rows, box, number):
    """Rows of a network that sees one object of a class, and nothing else."""
    right = rows.copy()
    right[..., 8:] = -9.0
    responsible, wanted, _ = losses.assigned(framed(box), rows[:1])
    cells = np.flatnonzero(np.asarray(responsible)[0])
    assert cells.size
    right[0, cells, :4] = np.asarray(wanted)[0, cells]
    right[0, cells, 8 + number] = 9.0
    return right


def test_every_size_of_object_has_cells_that_answer_for_it(rows):
    for side in (4, 9, 20, 40, 64):
        for corner in ((0, 0), (SIDE - side, SIDE - side), ((SIDE - side) // 2, 0)):
            box = (*corner, corner[0] + side, corner[1] + side)
            responsible, wanted, _ = losses.assigned(framed(box), rows[:1])
            cells = np.asarray(responsible)[0] > 0
            assert cells.any(), box
            np.testing.assert_allclose(np.asarray(wanted)[0, cells], [box] * cells.sum())
    assert not np.asarray(losses.assigned(framed(), rows[:1])[0]).any()


def test_the_loss_is_least_for_the_right_answer(rows):
    box = (10, 12, 34, 44)
    right = certain(rows, box, 0)[:1]
    wrong_class, wrong_box, nothing = right.copy(), right.copy(), right.copy()
    wrong_class[..., 8:] = right[..., :7:-1]
    wrong_box[..., :2] -= 6
    nothing[..., 8:] = -9.0
    loss = model.loss()
    least = float(loss(framed(box), right))
    assert least < 0.01
    for worse in (wrong_class, wrong_box, nothing):
        assert float(loss(framed(box), worse)) > least + 0.3


def test_a_saved_network_is_the_same(network, rows, tmp_path):
    network.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 255, (2, SIDE, SIDE, 3), np.uint8)
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(again(images, training=False), rows, rtol=1e-5, atol=1e-5)


def test_neighbouring_cells_are_one_detection(rows):
    box = (10, 12, 34, 44)
    answers = model.answers(tf.constant(certain(rows, box, 1)), SCHEMA)
    assert answers["num_detections"].numpy().tolist() == [1, 0]
    np.testing.assert_allclose(answers["detection_boxes"][0, 0] * SIDE, box, atol=1e-3)
    assert answers["detection_classes"][0, 0] == 1
    assert answers["objects"].numpy().tolist() == [b"digit", b"nothing"]
    assert answers["confidence"].numpy()[1] == 0


def test_one_matrix_recolours_as_one_change_after_another():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), np.uint8)
    draw = np.random.default_rng(1).uniform(-0.5, 0.5, (3, 6))
    contrast, brightness, *tint, saturation = draw.T.reshape(6, 3, 1, 1, 1)
    mean = images.mean(axis=(1, 2), keepdims=True)
    pixels = (images - mean) * (1 + 0.5 * contrast) + mean * (1 + 0.5 * brightness)
    grey = pixels.mean(axis=-1, keepdims=True)
    tinted = (grey + (pixels - grey) * (1 + 0.8 * saturation)) * (1 + 0.25 * np.concatenate(tint, axis=-1))
    found = augmentation.recoloured(images.astype(np.float32), draw)
    np.testing.assert_allclose(found.clip(0, 255), tinted.clip(0, 255), atol=1e-3)
    np.testing.assert_allclose(augmentation.recoloured(images, draw), tinted.clip(0, 255), atol=1)


def truths_of(*pictures):
    most = max(map(len, pictures))
    return [[*rows, *[[0, 0, 0, 0, -1, 0]] * (most - len(rows))] for rows in pictures]


def answers_of(*pictures, classes=(b"a", b"b")):
    found = {name: [] for name in ("detection_boxes", "detection_scores", "detection_classes", "classes")}
    for rows in pictures:
        filled = [*rows, *[(0, 0, 0, 0, 0, 0)] * (5 - len(rows))]
        found["detection_boxes"].append(np.array([row[:4] for row in filled]))
        found["detection_scores"].append(np.array([row[4] for row in filled]))
        found["detection_classes"].append(np.array([row[5] for row in filled]))
        found["classes"].append(np.array(classes))
    return found


BOX, ELSEWHERE = (0.1, 0.1, 0.5, 0.5), (0.6, 0.6, 0.9, 0.9)


def test_average_precision_by_hand():
    """Of two objects one is found first, then nothing, then the other: precision 1 to a recall of 1/2, then 2/3."""
    truths = truths_of([[*BOX, 0, 0], [*ELSEWHERE, 0, 0]], [[*BOX, 1, 0]])
    answers = answers_of([(*BOX, 0.9, 0), (0.1, 0.6, 0.3, 0.9, 0.8, 0), (*ELSEWHERE, 0.7, 0)], [(*BOX, 0.6, 1)])
    rates = metrics.evaluate(truths, answers, {})
    assert rates["voc_ap50_a"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert rates["voc_ap50_b"] == 1
    coco_a = (51 + 50 * 2 / 3) / 101
    assert rates["ap50"] == pytest.approx((coco_a + 1) / 2, abs=1e-6)
    assert metrics.measure(truths, answers)[metrics.MONITOR] == pytest.approx(1 - rates["ap50"])
    assert (rates["pictures"], rates["objects"]) == (2, 3)


def test_overlaps_of_more_than_one_half_count_less_and_less():
    shifted = (0.1, 0.1, 0.5, 0.4)  # an overlap of three quarters
    rates = metrics.evaluate(truths_of([[*BOX, 0, 0]]), answers_of([(*shifted, 0.9, 0)]), {})
    assert (rates["ap50"], rates["map"]) == (pytest.approx(1), pytest.approx(0.5, abs=0.11))


def test_difficult_objects_do_not_count():
    truths = truths_of([[*BOX, 0, 0], [*ELSEWHERE, 0, 1]])
    for more in ([], [(*ELSEWHERE, 0.95, 0)]):
        assert metrics.evaluate(truths, answers_of([(*BOX, 0.9, 0), *more]), {})["ap50"] == pytest.approx(1)


def test_sizes_are_told_apart_and_no_detection_is_no_error():
    small = (0.5, 0.5, 0.55, 0.55)
    truths = truths_of([[*BOX, 0, 0], [*small, 0, 0]])
    rates = metrics.evaluate(truths, answers_of([(*BOX, 0.9, 0)]), {})
    assert (rates["map_large"], rates["map_small"]) == (pytest.approx(1), 0)
    assert metrics.evaluate(truths, answers_of([]), {})["map"] == 0


def test_the_report_shows_a_class_that_is_never_found():
    truths = truths_of([[*BOX, 0, 0], [*ELSEWHERE, 1, 0]])
    answers = answers_of([(*BOX, 0.9, 0)]) | {"objects": [b"a"]}
    features = {"image": [np.zeros((SIDE, SIDE, 3), np.uint8)], "key": [b"one"]}
    history = {name: [0.5] for name in ("loss", "val_loss", "val_map", "val_ap50")}
    rates = metrics.evaluate(truths, answers, {})
    found = {section.title: section for section in report.sections(rates, truths, answers, features, history)}
    assert [(row[0], row[2]) for row in found["By class"].rows] == [("a", "100.0 %"), ("b", "none")]
