"""Who may call: whose certificates clients trust, and whose tokens the server trusts."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core import exceptions

from localvertex.home import Home
from localvertex.redirect import PROXIED_DOMAIN

TOKEN_URI = "https://oauth2.googleapis.com/token"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME = 3600
_ALGORITHM = "RS256"
_REMEMBERED = 4096


class Access:
    """Issues and verifies tokens with the keys of one state folder, which are made when missing.

    Args:
        home: its `keys` folder holds `ca.pem`, `ca.key` and `service-account.json`, the latter two mode 0600.
    """

    def __init__(self, home: Home) -> None:
        self._authority = _authority(home.keys)
        account = _service_account(home)
        self._email: str = account["client_email"]
        self._key = account["private_key"]
        private = serialization.load_pem_private_key(self._key.encode(), password=None)
        assert isinstance(private, rsa.RSAPrivateKey)
        self._public = private.public_key()
        self._known: dict[str, float] = {}
        self._remembering = threading.Lock()

    def server_tls(self) -> ssl.SSLContext:
        """TLS for every proxied host.

        HTTP/1.1 is preferred, so that only clients which speak nothing but HTTP/2, gRPC's, get HTTP/2.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(f"*{PROXIED_DOMAIN}", PROXIED_DOMAIN[1:]).configure_cert(context)
        context.set_alpn_protocols(["http/1.1", "h2"])
        return context

    def verify(self, authorization: str | None) -> None:
        """Check an `Authorization` header.

        Raises:
            google.api_core.exceptions.Unauthenticated: not a bearer token signed by this service account.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise exceptions.Unauthenticated(
                "Request is missing required authentication credential. "
                'Run `eval "$(localvertex env)"` in the shell that makes the call.'
            )
        if self._known.get(token, 0) < time.time():
            self._remember(token, self._decode(token)["exp"])

    def exchange(self, assertion: str) -> dict[str, Any]:
        """An access token for a signed assertion (RFC 7523), as the token endpoint answers.

        Raises:
            google.api_core.exceptions.Unauthenticated: the assertion is not signed by this service account.
        """
        claims = self._decode(assertion)
        if audience := claims.get("target_audience"):
            return {"id_token": self._sign({"aud": audience, "email": self._email})}
        return {
            "access_token": self._sign({"scope": claims.get("scope", "")}),
            "token_type": "Bearer",
            "expires_in": _LIFETIME,
        }

    def _sign(self, claims: dict[str, Any]) -> str:
        return sign(self._email, self._key, claims)

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                issuer=self._email,
                leeway=60,
                options={"require": ["exp", "iss"], "verify_aud": False},
            )
        except jwt.InvalidTokenError as error:
            raise exceptions.Unauthenticated(
                f"Request had invalid authentication credentials ({error}). "
                'Run `eval "$(localvertex env)"` again: the keys of this state folder sign them.'
            ) from error
        return claims

    def _remember(self, token: str, expiry: float) -> None:
        with self._remembering:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[token] = expiry


def sign(email: str, private_key: str, claims: dict[str, Any]) -> str:
    """A token of an hour, signed by a service account."""
    now = int(time.time())
    return jwt.encode(
        {"iss": email, "sub": email, "iat": now, "exp": now + _LIFETIME, **claims},
        private_key,
        algorithm=_ALGORITHM,
    )


def client_token(home: Home) -> str:
    """A bearer token for calls to the server of a state folder; its keys must exist."""
    account = json.loads((home.keys / "service-account.json").read_text())
    return sign(account["client_email"], account["private_key"], {})


def _authority(keys: Path) -> trustme.CA:
    certificate, key = keys / "ca.pem", keys / "ca.key"
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name="localvertex")
    _write_private(key, authority.private_key_pem.bytes())
    _write_private(certificate, authority.cert_pem.bytes())
    return authority


def _service_account(home: Home) -> dict[str, str]:
    path = home.keys / "service-account.json"
    if not path.exists():
        _write_private(path, json.dumps(_new_service_account(home.project_id), indent=2).encode())
    account: dict[str, str] = json.loads(path.read_text())
    return account


def _new_service_account(project_id: str) -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "type": "service_account",
        "project_id": project_id,
        "private_key_id": format(key.public_key().public_numbers().n, "x")[:40],
        "private_key": pem.decode(),
        "client_email": f"localvertex@{project_id}.iam.gserviceaccount.com",
        "client_id": "100000000000000000001",
        "token_uri": TOKEN_URI,
        "universe_domain": PROXIED_DOMAIN[1:],
    }


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    os.replace(aside, path)
