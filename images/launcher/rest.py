"""Google Cloud's REST APIs with the session's own credentials.

Steps that only look (what is deployed, what data is there, how a run went) run every time: the SDK's `aiplatform`
takes several CPU-seconds to import, these calls a fraction of one.

Source: cloud.google.com/vertex-ai/docs/reference/rest, cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from images.launcher import api

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT = 120.0
RETRIES, BACKOFF = 4, 0.5  # of calls that change nothing
_FOR_A_WHILE = (429, 502, 503, 504)


class ServiceError(Exception):
    """A call that the service refused or failed.

    Attributes:
        status: of HTTP; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Session:
    """Calls of Google Cloud's REST APIs."""

    def __init__(self) -> None:
        import google.auth
        from google.auth.transport.requests import AuthorizedSession
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        credentials, _ = google.auth.default(scopes=[SCOPE])
        self._session = AuthorizedSession(credentials)
        retry = Retry(RETRIES, backoff_factor=BACKOFF, status_forcelist=_FOR_A_WHILE, allowed_methods=["GET"])
        self._session.mount("https://", HTTPAdapter(max_retries=retry))

    def call(self, method: str, url: str, body: Any = None, **query: str) -> dict[str, Any]:
        """One call.

        Args:
            method: of HTTP.
            url: in full.
            body: what to send as JSON.
            query: parameters of the URL.

        Raises:
            ServiceError: refused, failed or not answered; with the service's message.
        """
        import requests

        try:
            response = self._session.request(method, url, params=query, json=body, timeout=TIMEOUT)
            answer = response.json() if response.content else {}
        except (requests.RequestException, ValueError) as error:
            raise ServiceError(f"{url} does not answer: {error}") from None
        if response.ok:
            return dict(answer)
        told = answer.get("error", {}) if isinstance(answer, dict) else {}
        message = told.get("message") if isinstance(told, dict) else None
        raise ServiceError(message or f"{url}: {response.status_code} {response.reason}", response.status_code)

    def pages(self, url: str, collection: str, **query: str) -> Iterator[dict[str, Any]]:
        """The entries of a list, page after page."""
        token = ""
        while True:
            page = self.call("GET", url, **query, **({"pageToken": token} if token else {}))
            yield from page.get(collection, [])
            token = page.get("nextPageToken", "")
            if not token:
                return


class Vertex(Session):
    """Vertex AI in one project and region.

    Args:
        project: Google Cloud project.
        location: region.
    """

    def __init__(self, project: str, location: str) -> None:
        super().__init__()
        self.host = f"https://{api.host(location)}/v1"
        self.parent = f"projects/{project}/locations/{location}"

    def get(self, name: str, **query: str) -> dict[str, Any]:
        """GET a resource."""
        return self.call("GET", f"{self.host}/{name}", **query)

    def post(self, name: str, body: Any) -> dict[str, Any]:
        """POST to a collection, or to a custom method of a resource."""
        return self.call("POST", f"{self.host}/{name}", body)

    def patch(self, name: str, body: Any, mask: str) -> dict[str, Any]:
        """PATCH the fields of a resource that the mask names."""
        return self.call("PATCH", f"{self.host}/{name}", body, updateMask=mask)

    def delete(self, name: str) -> dict[str, Any]:
        """DELETE a resource and wait until it is gone."""
        return self.done(self.call("DELETE", f"{self.host}/{name}"))

    def every(self, name: str, collection: str, **query: str) -> Iterator[dict[str, Any]]:
        """The resources of a collection, or of a custom method that lists."""
        return self.pages(f"{self.host}/{name}", collection, **query)

    def done(self, operation: dict[str, Any]) -> dict[str, Any]:
        """The answer of a long-running operation, once it has ended.

        Raises:
            ServiceError: it failed.
        """
        for wait in api.waits():
            if operation.get("done"):
                break
            time.sleep(wait)
            operation = self.get(operation["name"])
        if "error" in operation:
            raise ServiceError(operation["error"].get("message", str(operation["error"])))
        return dict(operation.get("response", {}))
