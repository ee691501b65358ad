"""The state folder: where everything localvertex keeps lives, and the few facts fixed for its lifetime."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

DEFAULT_FOLDER = ".localvertex"

_CONTENTS = {
    "gcs": "the buckets, with every object in them",
    "store.db*": "runs, jobs, models, endpoints, lineage and the cache",
    "database.url*": "which database they are in instead",
    "logs": "what tasks, jobs and the server printed",
    "keys": "the keys that shells under `localvertex env` use",
    "localvertex.toml": "the image table",
    "bigquery": "requests that endpoints logged",
    "uploads": "",
    "trials": "",
    "tmp": "",
    "server.*": "",
    "start.lock": "",
    "port*": "",
    "runner*": "",
}
"""What a state folder holds, by pattern, and what a user would miss of it."""


@dataclass(frozen=True)
class Home:
    """One state folder and the default project and location of its clients.

    Args:
        path: the folder; made absolute; `create()` makes it.
        project_id: the project that `localvertex env` names. Other ids are accepted in requests too.
        project_number: the number Vertex would know that project by.
        location: the region that `localvertex env` names. Any region is accepted in requests.
        database_url: an SQLAlchemy URL of the database to use in place of an SQLite file in the folder; empty for
            the one that the folder was created with.
    """

    path: Path
    project_id: str = "localvertex"
    project_number: str = "100000000001"
    location: str = "us-central1"
    database_url: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(self.path)))

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Home:
        """The state folder a shell means: $LOCALVERTEX_HOME, else `.localvertex` in the working directory."""
        return cls(
            Path(environment.get("LOCALVERTEX_HOME") or DEFAULT_FOLDER),
            project_id=environment.get("LOCALVERTEX_PROJECT") or cls.project_id,
            location=environment.get("LOCALVERTEX_LOCATION") or cls.location,
            database_url=environment.get("LOCALVERTEX_DATABASE_URL") or cls.database_url,
        )

    @cached_property
    def database(self) -> Path:
        """The SQLite file of the store, unless `store_url` is elsewhere."""
        return self.path / "store.db"

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the store's database."""
        with contextlib.suppress(FileNotFoundError):
            return self.database_url or self._remembered_url.read_text().strip()
        return f"sqlite:///{self.database}"

    @property
    def shown_store_url(self) -> str:
        """The same without a password, for people to read."""
        return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", self.store_url)

    @property
    def _remembered_url(self) -> Path:
        return self.path / "database.url"

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
        if self.database_url:
            # It may hold a password, and whoever starts the server again should not have to know it.
            aside = self.path / f"database.url.{os.getpid()}"
            with open(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(self.database_url)
            os.replace(aside, self._remembered_url)
        return self

    def contents(self) -> dict[str, str]:
        """What is in the folder and would be missed, with what it is."""
        names = {pattern: any(self.path.glob(pattern)) for pattern in _CONTENTS}
        return {pattern.rstrip("*"): text for pattern, text in _CONTENTS.items() if text and names[pattern]}

    def foreign(self) -> list[str]:
        """Names of what is in the folder and was not put there by localvertex."""
        names = sorted(entry.name for entry in self.path.iterdir())
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in _CONTENTS)]
