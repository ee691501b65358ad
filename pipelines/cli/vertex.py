"""Vertex AI's REST API, as far as a client that only starts, watches and asks needs it.

The SDK's `aiplatform` package takes several CPU-seconds to import, more than all else that an unchanged
`make run` does; the calls here are the ones that it makes.
Source: cloud.google.com/vertex-ai/docs/reference/rest
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pipelines import UserError
from pipelines.cli.targets import ServiceError
from pipelines.settings import Environment

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT = 120.0
FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds between two looks at an operation, at first and at most."""

NOT_FOUND_CODE = 5
"""google.rpc.Code."""


class NotFound(ServiceError):
    """There is no such resource."""


class Vertex:
    """A session with Vertex AI in one project and region.

    Args:
        environment: whose project and location to use.

    Raises:
        UserError: no credentials.
    """

    def __init__(self, environment: Environment) -> None:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession

        try:
            self.credentials, _ = google.auth.default(scopes=[SCOPE])
        except DefaultCredentialsError as error:
            raise UserError(f"no Google credentials; run: gcloud auth application-default login ({error})") from None
        self._session = AuthorizedSession(self.credentials)
        self._host = f"https://{environment.location}-aiplatform.googleapis.com/v1"
        self.parent = f"projects/{environment.project}/locations/{environment.location}"

    def get(self, name: str, **query: str) -> dict[str, Any]:
        """GET `/v1/<name>`: a resource, or a custom method of one.

        Raises:
            ServiceError: with the service's message.
        """
        return self._call("GET", name, query, None)

    def post(self, name: str, body: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """POST `/v1/<name>`.

        Raises:
            ServiceError: with the service's message.
        """
        return self._call("POST", name, query, body or {})

    def patch(self, name: str, body: dict[str, Any], fields: str) -> dict[str, Any]:
        """PATCH `/v1/<name>`: changes some fields of a resource.

        Args:
            name: of the resource.
            body: with the new values.
            fields: `updateMask`, joined by commas.

        Raises:
            ServiceError: with the service's message.
        """
        return self._call("PATCH", name, {"updateMask": fields}, body)

    def delete(self, name: str) -> None:
        """DELETE `/v1/<name>`, and waits until it is gone; nothing happens if it is gone already.

        Raises:
            ServiceError: with the service's message.
        """
        try:
            self.wait(self._call("DELETE", name, {}, None))
        except NotFound:
            return

    def wait(self, operation: dict[str, Any]) -> None:
        """Waits for the end of a long-running operation.

        Raises:
            ServiceError: it failed.
        """
        wait = FIRST_WAIT
        while not operation.get("done"):
            time.sleep(wait)
            wait = min(wait * 1.5, LONGEST_WAIT)
            operation = self.get(operation["name"])
        if "error" in operation:
            kind = NotFound if operation["error"].get("code") == NOT_FOUND_CODE else ServiceError
            raise kind(f"{operation['name']}: {operation['error'].get('message', operation['error'])}")

    def pages(self, name: str, **query: str) -> Iterator[dict[str, Any]]:
        """All resources of a collection such as `<parent>/endpoints`, page after page.

        Raises:
            ServiceError: with the service's message.
        """
        token = ""
        while True:
            page = self.get(name, **query, **({"pageToken": token} if token else {}))
            yield from page.get(name.rsplit("/", 1)[-1], [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def predict(self, endpoint: str, instances: list[Any]) -> list[dict[str, Any]]:
        """The endpoint's answers to some instances, in their order."""
        return list(self.post(f"{endpoint}:predict", {"instances": instances})["predictions"])

    def endpoint(self, display_name: str) -> dict[str, Any] | None:
        """The newest endpoint with this display name."""
        found = self.pages(f"{self.parent}/endpoints", filter=f'display_name="{display_name}"')
        named = [endpoint for endpoint in found if endpoint.get("displayName") == display_name]
        return max(named, key=lambda endpoint: str(endpoint.get("createTime", "")), default=None)

    def _call(self, method: str, name: str, query: dict[str, str], body: dict[str, Any] | None) -> dict[str, Any]:
        import requests
        from google.auth.exceptions import GoogleAuthError

        try:
            response = self._session.request(method, f"{self._host}/{name}", params=query, json=body, timeout=TIMEOUT)
            answer = response.json()
        except (requests.RequestException, GoogleAuthError, ValueError) as error:
            raise ServiceError(f"{self._host}/{name} does not answer: {error}") from None
        if response.ok:
            return dict(answer)
        message = answer.get("error", {}).get("message", response.text) if isinstance(answer, dict) else response.text
        kind = NotFound if response.status_code == requests.codes.not_found else ServiceError
        raise kind(f"{name}: {response.status_code}: {message}")
