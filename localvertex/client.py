"""A minimal client of the running server, for the command line: no SDK, nothing heavy to import."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from localvertex import names
from localvertex.access import client_token
from localvertex.daemon import DaemonError, Running
from localvertex.home import Home

_SECONDS = 60.0
_FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED"})


class ClientError(DaemonError):
    """The server answered with an error; the message is the server's."""


class ServerGone(DaemonError):
    """The server does not answer any more."""


class Client:
    """Calls the REST API of a running server over its own port.

    Args:
        running: the server.
        home: whose keys sign the calls.
        location: region: of what is submitted, the state folder's default if None; of what is asked for, any if None.
    """

    def __init__(self, running: Running, home: Home, location: str | None = None) -> None:
        self._port = running.port
        self._home = home
        self._token = client_token(home)
        self._parent = names.parent(home.project_id, location or home.location)
        self._where = {"location": location} if location else {}

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET `/{path}`.

        Raises:
            ClientError: the server answered with an error.
            ServerGone: it cannot be reached.
        """
        return self._call("GET", path, query)

    def _call(
        self, verb: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(
                verb,
                f"/{quote(path, safe='/:')}?{urlencode(query)}",
                body=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerGone(
                f"the server of {self._home.path} does not answer ({error}): "
                "`localvertex start` brings it back, with what it was doing"
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise ClientError(answer["error"]["message"])
        return answer

    def submit(self, job: Mapping[str, Any], run: str) -> dict[str, Any]:
        """Create a pipeline job; returns it as the server shows it.

        Args:
            job: a PipelineJob in JSON.
            run: its id.
        """
        return self._call("POST", f"v1/{self._parent}/pipelineJobs", {"pipelineJobId": run}, job)

    def pipeline_job(self, run: str) -> dict[str, Any]:
        """The PipelineJob of a run, with its tasks as they are now, in JSON."""
        return self.get(f"v1/{self._parent}/pipelineJobs/{run}")

    def runs(self, limit: int) -> list[dict[str, str]]:
        """Pipeline runs, the newest first: `id`, `name`, `display_name`, `location`, `state`, `created`, `root`."""
        found: list[dict[str, str]] = self.get("localvertex/v1/runs", limit=str(limit), **self._where)["runs"]
        return found

    def explain(self, run: str, task: str) -> dict[str, Any]:
        """Why a task of a run was executed, or was not (localvertex.engine.explain.Explanation in JSON)."""
        return self.get(f"localvertex/v1/runs/{run}:explain", task=task, **self._where)

    def artifacts_folder(self, run: str) -> Path | None:
        """Where the tasks of a run write their outputs, one folder each; None if it is not a run's id."""
        found = self._find(run)
        if found is None or not found["root"].startswith("gs://"):
            return None
        folder: Path = self._home.gcs / found["root"].removeprefix("gs://").rstrip("/")
        return folder / names.project_of(found["name"]) / run

    def has_ended(self, resource: str) -> bool:
        """Whether a run or a job is in a final state, or is not there at all."""
        found = self._find(resource)
        return found is None or found["state"] in _FINAL

    def _find(self, resource: str) -> dict[str, str] | None:
        try:
            return self.get(f"localvertex/v1/runs/{resource}", **self._where)
        except ClientError:
            return None
