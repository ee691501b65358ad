"""The environment that points Google's clients at localvertex: what `localvertex env` prints."""

from __future__ import annotations

from collections.abc import Mapping

from localvertex.home import Home

PROXIED_DOMAIN = ".googleapis.com"
_LOCAL = "localhost,127.0.0.1,::1"


def redirect_environment(home: Home, port: int) -> dict[str, str]:
    """Variables under which unmodified clients reach localvertex and nothing else.

    Args:
        home: whose keys the clients trust and use.
        port: of the proxy on 127.0.0.1.
    """
    proxy = f"http://127.0.0.1:{port}"
    authority = str(home.keys / "ca.pem")
    return {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "NO_PROXY": _LOCAL,
        "no_proxy": _LOCAL,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": authority,
        "REQUESTS_CA_BUNDLE": authority,
        "CURL_CA_BUNDLE": authority,
        "SSL_CERT_FILE": authority,
        "GOOGLE_APPLICATION_CREDENTIALS": str(home.keys / "service-account.json"),
        "GOOGLE_CLOUD_PROJECT": home.project_id,
        "CLOUDSDK_CORE_PROJECT": home.project_id,
        "GOOGLE_CLOUD_REGION": home.location,
        "GOOGLE_API_USE_CLIENT_CERTIFICATE": "false",
        "NO_GCE_CHECK": "true",
        "LOCALVERTEX_HOME": str(home.path),
    }


def without_redirect(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment as it was before it was redirected to this state folder; any other is left as it is."""
    redirect = redirect_environment(home, 0)
    credentials = "GOOGLE_APPLICATION_CREDENTIALS"
    redirected = environment.get(credentials) == redirect[credentials]
    return {name: value for name, value in environment.items() if not (redirected and name in redirect)}
