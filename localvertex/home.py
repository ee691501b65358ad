"""The state folder: where everything localvertex keeps lives, and the few facts fixed for its lifetime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DEFAULT_FOLDER = ".localvertex"


@dataclass(frozen=True)
class Home:
    """One state folder and the default project and location of its clients.

    Args:
        path: the folder; made absolute; `create()` makes it.
        project_id: the project that `localvertex env` names. Other ids are accepted in requests too.
        project_number: the number Vertex would know that project by.
        location: the region that `localvertex env` names. Any region is accepted in requests.
    """

    path: Path
    project_id: str = "localvertex"
    project_number: str = "100000000001"
    location: str = "us-central1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(self.path)))

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Home:
        """The state folder a shell means: $LOCALVERTEX_HOME, else `.localvertex` in the working directory."""
        return cls(
            Path(environment.get("LOCALVERTEX_HOME") or DEFAULT_FOLDER),
            project_id=environment.get("LOCALVERTEX_PROJECT") or cls.project_id,
            location=environment.get("LOCALVERTEX_LOCATION") or cls.location,
        )

    @cached_property
    def database(self) -> Path:
        """The SQLite file of the store."""
        return self.path / "store.db"

    @cached_property
    def gcs(self) -> Path:
        """The buckets, one folder each; what tasks see as `/gcs`."""
        return self.path / "gcs"

    @cached_property
    def logs(self) -> Path:
        """Log files: `<run or job id>/<task>.log`, and the server's own."""
        return self.path / "logs"

    @cached_property
    def uploads(self) -> Path:
        """Objects being uploaded, on the same file system as the buckets so that a rename publishes them."""
        return self.path / "uploads"

    @cached_property
    def keys(self) -> Path:
        """The certificate authority and the service account's key; readable by the owner alone."""
        return self.path / "keys"

    @property
    def server_log(self) -> Path:
        """What the server prints."""
        return self.logs / "server.log"

    def create(self) -> Home:
        """Make the folder and its rooms, private to this user; return self."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.gcs, self.logs, self.uploads, self.keys):
            folder.mkdir(mode=0o700, exist_ok=True)
        return self
