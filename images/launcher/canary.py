"""Canary: a new version answers a small share of an endpoint's traffic, and is held against the champion.

A prediction cannot be addressed to one of an endpoint's models, but the answer names the one that gave it. So the smoke
instances are sent through the endpoint until the new version has answered enough of them; both are then asked by the
same client, at the same time, in the same order.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from images.launcher.endpoints import Answer, Deployed, Endpoint

ENOUGH = 20
"""Answers of the new version that are looked at."""

PATIENCE = 8
"""How many times as many requests as should be enough are sent before the new version is given up."""

MORE_FAILURES = 0.01
"""By how much the share of failed requests may be larger than before the canary."""

SLOWER, SLACK = 2.0, 0.05
"""The median may be so many times the champion's, and so many seconds more."""

TOLERANCE = 0.01
"""By how much a confidence may differ from export's: another processor sums in another order."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What a series of requests came to.

    Attributes:
        answers: the requests' outcomes, in order.
        asked: the sample that each of them was about.
    """

    answers: Sequence[Answer]
    asked: Sequence[Mapping[str, Any]]

    @property
    def failed(self) -> float:
        """The share of requests without an answer."""
        return sum(bool(answer.error) for answer in self.answers) / len(self.answers)

    def median(self, id: str) -> float:
        """Seconds that half of a deployed model's answers took at most; NaN where it gave none."""
        taken = [answer.seconds for answer in self.answers if answer.deployed == id]
        return statistics.median(taken) if taken else math.nan

    def count(self, id: str) -> int:
        """How many requests a deployed model answered."""
        return sum(answer.deployed == id for answer in self.answers)


def send(endpoint: Endpoint, samples: Sequence[Mapping[str, Any]], most: int, until: str = "") -> Load:
    """Sends the samples one by one, over and over.

    Args:
        endpoint: to ask.
        samples: lines of `smoke.jsonl`.
        most: requests.
        until: id of a deployed model; it ends when that one has answered `ENOUGH` of them.
    """
    answers: list[Answer] = []
    asked = []
    reached = 0
    for sample in itertools.islice(itertools.cycle(samples), most):
        answers.append(endpoint.ask([sample["instance"]]))
        asked.append(sample)
        reached += answers[-1].deployed == until
        if until and reached >= ENOUGH:
            break
    return Load(answers, asked)


def complaint(before: Load, during: Load, champion: Deployed, challenger: Deployed) -> str:
    """Why a canary is not to be promoted; empty if nothing speaks against it.

    Args:
        before: requests to the champion alone.
        during: requests to both.
        champion: that serves most of the traffic.
        challenger: that serves the rest.
    """
    if during.failed > before.failed + MORE_FAILURES:
        told = next(answer.error for answer in during.answers if answer.error)
        return f"{100 * during.failed:.1f} % of requests failed, {100 * before.failed:.1f} % before it; first: {told}"
    if during.count(challenger.id) < ENOUGH:
        return f"it answered only {during.count(challenger.id)} of {len(during.answers)} requests"
    for answer, sample in zip(during.answers, during.asked, strict=True):
        if answer.deployed == challenger.id and (wrong := disagreements([sample], answer.predictions)):
            return f"a smoke prediction is not what export saw: {wrong[0]}"
    own, other = during.median(challenger.id), during.median(champion.id)
    if own > SLOWER * other + SLACK:
        return f"half of its answers took more than {1000 * own:.0f} ms, of the champion's {1000 * other:.0f} ms"
    return ""


def disagreements(samples: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where answers are not what export saw: another answer, or a confidence further off than `TOLERANCE`."""
    wrong = []
    for sample, given in zip(samples, answers, strict=True):
        name, expected = sample["answer"], sample["expected"]
        same = given.get(name) == expected[name]
        confidence = given.get("confidence", math.nan)
        if not (same and math.isclose(confidence, expected["confidence"], abs_tol=TOLERANCE)):
            wrong.append(
                f"{sample['instance'].get('key', '?')}: answered {given.get(name)!r} "
                f"({confidence}), expected {expected[name]!r} ({expected['confidence']})"
            )
    return wrong
