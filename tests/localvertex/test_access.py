"""Protects the door: only tokens signed by this state folder's key pass, and private keys stay private."""

from __future__ import annotations

import json
import ssl
import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import Unauthenticated

from localvertex.access import Access, client_token, sign
from localvertex.home import Home
from localvertex.redirect import redirect_environment, without_redirect


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state").create()


def test_keys_are_private_and_kept(home: Home) -> None:
    Access(home)
    before = {path.name: path.read_bytes() for path in home.keys.iterdir()}
    assert set(before) == {"ca.pem", "ca.key", "service-account.json"}
    for path in home.keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Access(home)
    assert before == {path.name: path.read_bytes() for path in home.keys.iterdir()}


def test_own_tokens_pass(home: Home) -> None:
    access = Access(home)
    access.verify(f"Bearer {client_token(home)}")
    account = json.loads((home.keys / "service-account.json").read_text())
    assertion = sign(account["client_email"], account["private_key"], {"aud": account["token_uri"], "scope": "x"})
    issued = access.exchange(assertion)
    access.verify(f"Bearer {issued['access_token']}")
    assert issued["expires_in"] == 3600
    assert Access(home).exchange(assertion), "tokens outlive a restart"


def test_everything_else_is_refused(home: Home, tmp_path: Path) -> None:
    access = Access(home)
    account = json.loads((home.keys / "service-account.json").read_text())
    email, key = account["client_email"], account["private_key"]
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {"iss": email, "exp": int(time.time()) + 60}
    other = Home(tmp_path / "other").create()
    Access(other)
    refused = {
        "no header": None,
        "empty": "Bearer ",
        "another scheme": f"Basic {client_token(home)}",
        "not a token": "Bearer abc",
        "another home's key": f"Bearer {client_token(other)}",
        "a stranger's key": "Bearer " + jwt.encode(claims, stranger, algorithm="RS256"),
        "expired": f"Bearer {sign(email, key, {'exp': int(time.time()) - 3600})}",
        "another issuer": f"Bearer {sign('eve@example.com', key, {})}",
        "unsigned": "Bearer " + jwt.encode(claims, "", algorithm="none"),
        "altered": f"Bearer {client_token(home)[:-8]}AAAAAAAA",
    }
    for what, header in refused.items():
        with pytest.raises(Unauthenticated):
            access.verify(header)
            pytest.fail(what)
    with pytest.raises(Unauthenticated):
        access.exchange(jwt.encode(claims, stranger, algorithm="RS256"))


def test_certificate_is_for_the_proxied_hosts_alone(home: Home) -> None:
    context = Access(home).server_tls()
    client = ssl.create_default_context(cafile=str(home.keys / "ca.pem"))
    for name, good in (("us-central1-aiplatform.googleapis.com", True), ("example.com", False)):
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = context.wrap_bio(ours, theirs, server_side=True)
        client_side = client.wrap_bio(theirs, ours, server_hostname=name)
        assert _shakes_hands(client_side, server_side) is good


def _shakes_hands(client: ssl.SSLObject, server: ssl.SSLObject) -> bool:
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def test_redirect_can_be_undone(home: Home) -> None:
    redirected = {"PATH": "/bin", **redirect_environment(home, 1234)}
    assert without_redirect(home, redirected) == {"PATH": "/bin"}
    elsewhere = {"HTTPS_PROXY": "http://proxy.example", "PATH": "/bin"}
    assert without_redirect(home, elsewhere) == elsewhere
