"""Protects what resources may be called: display names and labels that Vertex AI refuses are refused, by field."""

from __future__ import annotations

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CustomJob, Endpoint, Model

from localvertex import labels


@pytest.mark.parametrize("kind", [CustomJob, Endpoint, Model])
def test_names_and_labels_are_checked(kind: type[CustomJob]) -> None:
    labels.check(kind(display_name="x" * 128, labels={"0-a_": "", "ä": "-"}), "it")
    for wrong, told in (
        ({"display_name": "x" * 129}, r"it\.display_name: longer than 128"),
        ({"labels": {f"k{number}": "" for number in range(65)}}, r"it\.labels: more than 64"),
        ({"labels": {"K": "v"}}, r"it\.labels: 'K: v' is not valid"),
        ({"labels": {"k": "v" * 64}}, r"it\.labels: .* is not valid"),
        ({"labels": {"-k": ""}}, r"it\.labels: '-k: ' is not valid"),
    ):
        with pytest.raises(exceptions.InvalidArgument, match=told):
            labels.check(kind(**wrong), "it")
