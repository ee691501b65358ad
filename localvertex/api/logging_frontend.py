"""Cloud Logging's `entries:list`, for what pipeline tasks print.

A task's lines are found as on Vertex AI: by `resource.labels.job_id`, the id of the `main_job` in its details.
Source: https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions

from localvertex import names
from localvertex.engine.journal import Journal
from localvertex.home import Home
from localvertex.logs import LogReader

HOST = "logging.googleapis.com"

_PAGE, _MOST = 50, 1000
_ABOVE_IDS = 1 << 63
_JOB = re.compile(r'resource\.labels\.job_id\s*=\s*"(\d{1,40})"')


class LoggingFrontend:
    """Answers the one call of Cloud Logging that there is.

    Args:
        home: where the logs are.
        journal: which task has which id.
    """

    def __init__(self, home: Home, journal: Journal) -> None:
        self._home = home
        self._journal = journal

    def answer(self, verb: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        """The last lines of a task, the newest first or last.

        Raises:
            google.api_core.exceptions.InvalidArgument: `pageSize` is no number from 0 to 1,000.
            google.api_core.exceptions.MethodNotImplemented: another call, or a filter by something else.
        """
        wanted = _JOB.search(str(body.get("filter", "")))
        if (verb, path) != ("POST", "/v2/entries:list") or wanted is None:
            raise exceptions.MethodNotImplemented(
                'localvertex has of Cloud Logging only entries:list with resource.labels.job_id="…" in the filter.'
            )
        size = _page_size(body.get("pageSize"))
        record = self._journal.find(int(wanted[1])) if int(wanted[1]) < _ABOVE_IDS else None
        if record is None:
            return {}
        newest_first = "desc" in str(body.get("orderBy", ""))
        reader = LogReader(self._home, names.id_of(record.job))
        lines = [line.text for line in reader.read(record.path.replace("/", "."))]
        chosen = lines[-size:][::-1] if newest_first else lines[:size]
        resource = {"type": "ml_job", "labels": {"job_id": wanted[1], "task_name": "workerpool0-0"}}
        return {"entries": [{"resource": resource, "textPayload": text} for text in chosen]}


def _page_size(said: Any) -> int:
    """How many entries are asked for; an int32 of JSON may be text."""
    if said is None:
        return _PAGE
    if isinstance(said, bool) or not re.fullmatch(r"\d{1,4}", str(said), re.ASCII) or int(said) > _MOST:
        raise exceptions.InvalidArgument(f"pageSize: {said!r:.40} must be a whole number from 0 to {_MOST}.")
    return int(said) or _PAGE
