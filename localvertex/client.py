"""A minimal client of the running server, for the command line: no SDK, nothing heavy to import."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from localvertex import names
from localvertex.access import client_token
from localvertex.daemon import DaemonError, Running
from localvertex.home import Home

_SECONDS = 30.0
_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})


class ClientError(DaemonError):
    """The server answered with an error; the message is the server's."""


class Client:
    """Calls the REST API of a running server over its own port.

    Args:
        running: the server.
        home: whose keys sign the calls.
    """

    def __init__(self, running: Running, home: Home) -> None:
        self._port = running.port
        self._home = home
        self._token = client_token(home)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET `/v1/{path}`.

        Raises:
            ClientError: the server answered with an error.
            OSError: it cannot be reached.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(
                "GET",
                f"/v1/{quote(path)}?{urlencode(query)}",
                headers={"Authorization": f"Bearer {self._token}"},
            )
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ClientError(answer["error"]["message"])
        return answer

    def pipeline_jobs(self, limit: int, location: str) -> list[dict[str, str]]:
        """Runs, the newest first: `id`, `state`, `created`, `display_name`."""
        parent = names.parent(self._home.project_id, location)
        answer = self.get(f"{parent}/pipelineJobs", pageSize=str(limit), orderBy="create_time desc")
        return [
            {
                "id": names.id_of(job["name"]),
                "state": job.get("state", "").removeprefix("PIPELINE_STATE_"),
                "created": job.get("createTime", ""),
                "display_name": job.get("displayName", ""),
            }
            for job in answer.get("pipelineJobs", [])[:limit]
        ]

    def artifacts_folder(self, run: str) -> Path | None:
        """Where the tasks of a run write their outputs, one folder each; None if it is not a run's id."""
        job = self._find("pipelineJobs", run)
        root = ((job or {}).get("runtimeConfig") or {}).get("gcsOutputDirectory", "")
        if job is None or not root.startswith("gs://"):
            return None
        folder: Path = self._home.gcs / root.removeprefix("gs://").rstrip("/")
        return folder / names.project_of(job["name"]) / run

    def has_ended(self, resource: str) -> bool:
        """Whether a run or a job is in a final state, or is not there at all."""
        for collection in ("pipelineJobs", "customJobs", "hyperparameterTuningJobs"):
            if job := self._find(collection, resource):
                return job.get("state", "").rpartition("STATE_")[2] in _FINAL
        return True

    def _find(self, collection: str, resource: str) -> dict[str, Any] | None:
        parent = names.parent(self._home.project_id, self._home.location)
        try:
            return self.get(f"{parent}/{collection}/{resource}")
        except ClientError:
            return None
