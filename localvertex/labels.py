"""What users call their resources: display names and labels, refused where Vertex AI refuses them.

Sources: https://cloud.google.com/vertex-ai/docs/general/labels, and `displayName` of each resource in
https://cloud.google.com/vertex-ai/docs/reference/rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from google.api_core import exceptions

_LONGEST_DISPLAY_NAME = 128
_MOST_LABELS = 64
# Letters of any language, but no capitals.
_KEY = re.compile(r"[^\W_][-\w]{0,62}")
_VALUE = re.compile(r"[-\w]{0,63}")


class Named(Protocol):
    """A resource that its user names and labels."""

    display_name: str
    labels: Mapping[str, str]


def check(resource: Named, where: str) -> None:
    """Refuse a display name or labels that are not valid; whether a display name is required is not asked here.

    Args:
        where: the field of the request that holds the resource, such as `custom_job`.

    Raises:
        google.api_core.exceptions.InvalidArgument: naming the field.
    """
    if len(resource.display_name) > _LONGEST_DISPLAY_NAME:
        raise exceptions.InvalidArgument(f"{where}.display_name: longer than {_LONGEST_DISPLAY_NAME} characters.")
    if len(resource.labels) > _MOST_LABELS:
        raise exceptions.InvalidArgument(f"{where}.labels: more than {_MOST_LABELS} labels.")
    for key, value in resource.labels.items():
        if not (_KEY.fullmatch(key) and _VALUE.fullmatch(value) and f"{key}{value}".lower() == key + value):
            raise exceptions.InvalidArgument(
                f"{where}.labels: '{key}: {value}' is not valid; keys and values are at most 63 lowercase letters, "
                "digits, dashes and underscores, and keys start with a letter or a digit."
            )
