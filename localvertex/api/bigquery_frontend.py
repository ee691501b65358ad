"""Of BigQuery, what it takes to read a table: `tables.get` and `tabledata.list`, for logged requests.

Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/list
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions

from localvertex.services.request_log import COLUMNS, RequestLog

HOST = "bigquery.googleapis.com"

_PAGE = 1000
_PATH = re.compile(r"/bigquery/v2/projects/([a-z0-9:.-]+)/datasets/(\w+)/tables/([\w-]+)(/data)?", re.ASCII)


class BigQueryFrontend:
    """Answers reads of tables of logged requests.

    Args:
        log: has the tables.
    """

    def __init__(self, log: RequestLog) -> None:
        self._log = log

    def answer(self, verb: str, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        """A table's description, or some of its rows.

        Raises:
            google.api_core.exceptions.MethodNotImplemented: another call.
            google.api_core.exceptions.NotFound: there is no such table.
        """
        match = _PATH.fullmatch(path)
        if verb != "GET" or match is None:
            raise exceptions.MethodNotImplemented("localvertex has of BigQuery only tables.get and tabledata.list.")
        project, dataset, table, data = match.groups()
        count = self._log.count(project, dataset, table)
        if not data:
            fields = [{"name": name, "type": kind, "mode": mode} for name, kind, mode in COLUMNS]
            reference = {"projectId": project, "datasetId": dataset, "tableId": table}
            return {"tableReference": reference, "schema": {"fields": fields}, "numRows": str(count)}
        start = _whole(query, "startIndex", 0)
        size = min(_whole(query, "maxResults", _PAGE), _PAGE)
        rows = self._log.rows(project, dataset, table, start, size)
        return {"totalRows": str(count), "rows": [_row(row) for row in rows]}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    def cell(value: Any) -> Any:
        return {"v": [{"v": each} for each in value] if isinstance(value, list) else str(value)}

    return {"f": [cell(row[name]) for name, _, _ in COLUMNS]}


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise exceptions.InvalidArgument(f"{name}: a whole number.")
    return int(text)
