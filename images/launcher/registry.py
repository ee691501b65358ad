"""The versions of one model in the Model Registry: which there are, and what is noted on them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from images.launcher.rest import Vertex

HEALTH_ROUTE, PREDICT_ROUTE, PORT = "/health", "/predict", 8080

CHAMPION, CHALLENGER, PREVIOUS, DEFAULT = "champion", "challenger", "previous", "default"
"""Aliases: what serves; what was last compared with it; what served before it; what the bare name stands for."""

VERDICT, OPPONENT, ATTEMPT = "release_verdict", "release_champion", "release_attempt"
"""Labels: what became of a version, the number of the version it was compared with, and in which attempt."""

PROMOTED, REFUSED, WITHDRAWN = "promoted", "refused", "withdrawn"
NONE = "none"


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of a model.

    Attributes:
        name: `<model>@<number>`.
        uri: gs:// folder of the SavedModel.
        image: container image that answers predictions.
        aliases: such as `champion`.
        labels: by name.
    """

    name: str
    uri: str
    image: str
    aliases: tuple[str, ...]
    labels: Mapping[str, str]

    @property
    def number(self) -> str:
        """The version's number, as text."""
        return self.name.rpartition("@")[2]


class Registry:
    """The versions of one model.

    Args:
        vertex: the service.
        model: display name.
    """

    def __init__(self, vertex: Vertex, model: str) -> None:
        self._vertex = vertex
        self._model = model

    def versions(self) -> list[Version]:
        """All versions; none where there is no such model."""
        parent = self._parent()
        return [_version(found) for found in self._vertex.every(f"{parent}:listVersions", "models")] if parent else []

    def find(self, uri: str, image: str) -> Version | None:
        """The version with this SavedModel and serving image."""
        return next((found for found in self.versions() if (found.uri, found.image) == (uri, image)), None)

    def with_alias(self, alias: str) -> Version | None:
        """The version that has an alias."""
        return next((found for found in self.versions() if alias in found.aliases), None)

    def upload(self, uri: str, image: str, labels: Mapping[str, str]) -> Version:
        """Makes a version; the first one makes the model."""
        parent = self._parent()
        model = {
            "displayName": self._model,
            "artifactUri": uri,
            "labels": dict(labels),
            # Only a release makes a version the one that the bare name stands for.
            "versionAliases": [] if parent else [DEFAULT],
            "containerSpec": {
                "imageUri": image,
                "healthRoute": HEALTH_ROUTE,
                "predictRoute": PREDICT_ROUTE,
                "ports": [{"containerPort": PORT}],
            },
        }
        body = {"model": model, **({"parentModel": parent} if parent else {})}
        done = self._vertex.done(self._vertex.post(f"{self._vertex.parent}/models:upload", body))
        return self.get(f"{done['model'].partition('@')[0]}@{done['modelVersionId']}")

    def get(self, name: str) -> Version:
        """A version by `<model>@<number>`."""
        return _version(self._vertex.get(name))

    def give(self, version: Version, *aliases: str) -> None:
        """Gives a version aliases, taking them from the others; `-alias` takes one away."""
        self._vertex.post(f"{version.name}:mergeVersionAliases", {"versionAliases": list(aliases)})

    def note(self, version: Version, **labels: str) -> None:
        """Sets labels of a version, beside those that it has."""
        present = dict(self.get(version.name).labels)
        if present | labels != present:
            body = {"name": version.name, "labels": present | labels}
            self._vertex.patch(version.name, body, "labels")

    def crown(self, version: Version) -> None:
        """Makes a version the champion, and the one that was it the previous one; done twice, it is done once."""
        before = self.with_alias(CHAMPION)
        if before is not None and before.name != version.name:
            self.give(before, PREVIOUS)
        self.give(version, CHAMPION, DEFAULT, f"-{CHALLENGER}", f"-{PREVIOUS}")

    def _parent(self) -> str:
        named = f'display_name="{self._model}"'
        found = self._vertex.every(f"{self._vertex.parent}/models", "models", filter=named)
        return next((str(each["name"]).partition("@")[0] for each in found if each["displayName"] == self._model), "")


def labels(metrics: Mapping[str, float]) -> dict[str, str]:
    """Scores as labels, which hold small letters, digits, dashes and underscores: 0.0312 is `0_0312`."""
    return {
        re.sub(r"[^a-z0-9_-]", "_", name.lower())[:63]: re.sub(r"[^a-z0-9_-]", "_", f"{value:.4f}")[:63]
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _version(found: Mapping[str, Any]) -> Version:
    return Version(
        f"{found['name'].partition('@')[0]}@{found['versionId']}",
        found.get("artifactUri", ""),
        found.get("containerSpec", {}).get("imageUri", ""),
        tuple(found.get("versionAliases", ())),
        found.get("labels", {}),
    )
