"""Brings the SavedModel to this machine."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from images.executor import UserError

API = "https://storage.googleapis.com/storage/v1"
CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without a byte


def fetch(uri: str, folder: Path) -> Path:
    """Gives a local folder with what is at `uri`.

    Args:
        uri: a path, or gs://<bucket>/<prefix>, whose objects are downloaded.
        folder: where downloads go.

    Returns:
        The path itself, or `folder`.

    Raises:
        UserError: there is nothing there, or the bucket does not let us read it.

    Source: cloud.google.com/storage/docs/json_api/v1/objects/list and …/get
    """
    if not uri.startswith("gs://"):
        if not (Path(uri) / "saved_model.pb").is_file():
            raise UserError(f"AIP_STORAGE_URI={uri}: no saved_model.pb there")
        return Path(uri)
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_only"])
    session = AuthorizedSession(credentials)
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    prefix = prefix.rstrip("/") + "/"
    objects = f"{API}/b/{urllib.parse.quote(bucket, safe='')}/o"
    found = [name for name in _names(session, objects, prefix, uri) if not name.endswith("/")]
    if f"{prefix}saved_model.pb" not in found:
        raise UserError(f"AIP_STORAGE_URI={uri}: no saved_model.pb there")
    for name in found:
        target = (folder / name.removeprefix(prefix)).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise UserError(f"AIP_STORAGE_URI={uri}: object {name} would be written outside the model's folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        url = f"{objects}/{urllib.parse.quote(name, safe='')}"
        with session.get(url, params={"alt": "media"}, stream=True, timeout=TIMEOUT) as response:
            _check(response, f"gs://{bucket}/{name}")
            with target.open("wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
    return folder


def _names(session, objects: str, prefix: str, uri: str) -> list[str]:  # type: ignore[no-untyped-def]
    names: list[str] = []
    parameters = {"prefix": prefix, "fields": "items(name),nextPageToken"}
    while True:
        response = session.get(objects, params=parameters, timeout=TIMEOUT)
        _check(response, uri)
        page = response.json()
        names += [item["name"] for item in page.get("items", [])]
        if not page.get("nextPageToken"):
            return names
        parameters["pageToken"] = page["nextPageToken"]


def _check(response, what: str) -> None:  # type: ignore[no-untyped-def]
    if response.status_code != 200:
        raise UserError(f"{what}: cannot be read, HTTP {response.status_code} {response.reason}")
