"""What a registry of images has: the HTTP API V2, as far as a look at tags and digests needs it.

Source: https://distribution.github.io/distribution/spec/api/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cli.targets import ServiceError

if TYPE_CHECKING:
    import httpx

KINDS = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
TIMEOUT = 60.0


class Registry:
    """A look at one registry.

    Args:
        name: as images are named in it, such as `europe-docker.pkg.dev/my-project/pipelines`. One of this machine is
            asked in plain text and without credentials, as Docker does.
    """

    def __init__(self, name: str) -> None:
        self.host, _, self.repository = name.partition("/")
        self.is_local = self.host.rpartition(":")[0] in LOOPBACK or self.host in LOOPBACK

    def digest(self, image: str, tag: str) -> str | None:
        """The digest (`sha256:…`) of the manifest that a tag stands for; None if there is no such tag.

        Args:
            image: its last part, such as `trainer`.
            tag: without the colon.

        Raises:
            ServiceError: the registry cannot be reached or refuses to answer.
        """
        import httpx

        address = f"{'http' if self.is_local else 'https'}://{self.host}/v2/{self.repository}/{image}/manifests/{tag}"
        try:
            answer = httpx.head(address, headers={"Accept": KINDS}, auth=self._credentials(), timeout=TIMEOUT)
        except httpx.HTTPError as error:
            raise ServiceError(f"registry {self.host}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code != httpx.codes.OK:
            raise ServiceError(
                f"registry {self.host}: HTTP {answer.status_code} for {image}:{tag}; "
                "may these credentials read it? gcloud auth application-default login"
            )
        return str(answer.headers.get("docker-content-digest", ""))

    def _credentials(self) -> httpx.Auth | None:
        if self.is_local:
            return None
        import google.auth
        import google.auth.transport.requests
        import httpx
        from google.auth.exceptions import GoogleAuthError

        try:
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
            credentials.refresh(google.auth.transport.requests.Request())
        except GoogleAuthError as error:
            raise ServiceError(f"no Google credentials; run: gcloud auth application-default login ({error})") from None
        return httpx.BasicAuth("oauth2accesstoken", str(credentials.token))
