"""Protects the scores of ordered classes: equal to scikit-learn's, with intervals that resample whole patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from images.trainer.classification.agreement import Agreement
from images.trainer.systems.ddsm import metrics

CLASSES = ("1", "2", "3", "4")


def answered(seed: int, patients: int, films: int = 4, noise: float = 0.8):
    """Truths, answers and probabilities of patients whose films share a truth, and mostly the mistakes."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), films)
    truths = random.integers(0, 4, patients)[patient]
    seen = truths + noise * random.normal(size=patients)[patient] + 0.1 * random.normal(size=len(patient))
    scores = -((seen[:, np.newaxis] - np.arange(4)) ** 2)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return truths, probabilities.argmax(axis=1), probabilities, patient


def test_numbers_are_those_of_scikit_learn():
    truths, answers, probabilities, patient = answered(1, 60)
    found = Agreement(truths, answers, probabilities.round(2), patient.tolist()).intervals(CLASSES)
    assert found["accuracy"][0] == pytest.approx(reference.accuracy_score(truths, answers))
    assert found["balanced_accuracy"][0] == pytest.approx(reference.balanced_accuracy_score(truths, answers))
    kappa = reference.cohen_kappa_score(truths, answers, weights="quadratic")
    assert found["quadratic_kappa"][0] == pytest.approx(kappa)
    for each, name in enumerate(CLASSES):  # Rounded, so that there are ties.
        area = reference.roc_auc_score(truths == each, probabilities.round(2)[:, each])
        assert found[f"auc_{name}"][0] == pytest.approx(area)
    assert all(low <= value <= high for value, low, high in found.values())


def test_resampling_patients_is_what_resampling_films_by_hand_gives():
    truths, answers, probabilities, patient = answered(2, 40)
    _, low, high = Agreement(truths, answers, probabilities, patient.tolist()).intervals(CLASSES)["quadratic_kappa"]
    random = np.random.default_rng(3)
    kappas = []
    for _ in range(600):
        films = np.concatenate([np.flatnonzero(patient == each) for each in random.integers(0, 40, 40)])
        kappas.append(reference.cohen_kappa_score(truths[films], answers[films], weights="quadratic"))
    assert (low, high) == pytest.approx(tuple(np.quantile(kappas, [0.025, 0.975])), abs=0.03)
    _, narrow, wide = Agreement(truths, answers, probabilities, list(range(len(truths)))).intervals(CLASSES)["accuracy"]
    _, low, high = Agreement(truths, answers, probabilities, patient.tolist()).intervals(CLASSES)["accuracy"]
    assert high - low > 1.5 * (wide - narrow)  # Films of a patient are wrong together.


def test_a_class_that_nobody_has_has_no_area_and_spoils_nothing():
    truths, answers, probabilities, patient = answered(4, 30)
    kept = truths != 3
    found = Agreement(truths[kept], answers[kept], probabilities[kept], patient[kept].tolist()).intervals(CLASSES)
    assert "auc_4" not in found
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        expected = reference.balanced_accuracy_score(truths[kept], answers[kept])
    assert found["balanced_accuracy"][0] == pytest.approx(expected)
    assert np.isfinite(list(found.values())).all()


def test_the_report_has_all_numbers_and_the_monitor_is_one_of_them():
    truths, answers, probabilities, patient = answered(6, 30)
    names = [CLASSES[each].encode() for each in truths]
    given = {
        "class": [CLASSES[each].encode() for each in answers],
        "confidence": probabilities.max(axis=1),
        "probabilities": probabilities,
    }
    features = {"patient": [str(each).encode() for each in patient], "key": [str(each).encode() for each in range(120)]}
    rates = metrics.evaluate(names, given, features)
    assert rates["patients"] == 30 and rates["examples"] == 120
    assert rates[metrics.MONITOR] == pytest.approx(1 - rates["balanced_accuracy"])
    assert {f"auc_{name}_low" for name in CLASSES} | {f"recall_{name}" for name in CLASSES} <= rates.keys()
    unknown = {**features, "patient": [b""] * 120}
    assert metrics.evaluate(names, given, unknown)["patients"] == 120
