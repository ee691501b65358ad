"""Who may look at the console: whoever opened a one-time link that this state folder's key has signed.

A browser cannot sign its calls. So the command line, which can read the key, makes a link that works once and
soon expires; it leaves a cookie in the browser, which is good for the console and for nothing else: the API takes
neither. Cookies outlive a restart of the server, as they are checked by the key alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from typing import Any

import jwt
from google.api_core import exceptions

from localvertex.home import Home

LINK_SECONDS = 600
SESSION_SECONDS = 7 * 24 * 3600
_ALGORITHM = "HS256"
_LINK, _SESSION = "console-link", "console-session"


class Sessions:
    """Turns links into cookies, and knows its own cookies again.

    Args:
        home: the state folder; its keys must exist.

    Attributes:
        cookie: its name. Cookies of one host are shared by all its ports, so each state folder has its own.
    """

    def __init__(self, home: Home) -> None:
        self._key = _key(home)
        self.cookie = f"localvertex-{hashlib.sha256(str(home.path).encode()).hexdigest()[:12]}"
        self._started = time.time()
        self._opened: dict[str, float] = {}
        self._opening = threading.Lock()

    def open(self, code: str) -> str:
        """The cookie's value for a link's code, which works only once.

        Raises:
            google.api_core.exceptions.Unauthenticated: the code is of another folder, too old or already used.
        """
        claims = _decoded(self._key, code, _LINK)
        with self._opening:
            now = time.time()
            self._opened = {used: expiry for used, expiry in self._opened.items() if expiry > now}
            # Which links were used before a restart is forgotten, so none from before it counts.
            if claims["jti"] in self._opened or claims["issued"] < self._started:
                raise _refusal()
            self._opened[claims["jti"]] = claims["exp"]
        return _signed(self._key, _SESSION, SESSION_SECONDS)

    def check(self, cookie: str | None) -> None:
        """Let the holder of a session's cookie pass.

        Raises:
            google.api_core.exceptions.Unauthenticated: it is none.
        """
        _decoded(self._key, cookie or "", _SESSION)

    def token(self, cookie: str) -> str:
        """What the forms of a session carry; another session's forms carry another."""
        return hmac.new(self._key, f"form\n{cookie}".encode(), hashlib.sha256).hexdigest()

    def check_token(self, cookie: str, token: str) -> None:
        """Let a form pass.

        Raises:
            google.api_core.exceptions.PermissionDenied: it is not one of this session's.
        """
        if not hmac.compare_digest(self.token(cookie).encode(), token.encode()):
            raise exceptions.PermissionDenied("This form is of another session. Load its page again, and send it anew.")


def new_code(home: Home) -> str:
    """The code of a new one-time link to the console of a state folder, whose server must be running."""
    return _signed(_key(home), _LINK, LINK_SECONDS)


def _key(home: Home) -> bytes:
    """A key of its own, made from the service account's: what one signs, the other does not verify."""
    account = json.loads((home.keys / "service-account.json").read_text())
    return hashlib.sha256(b"localvertex console\n" + account["private_key"].encode()).digest()


def _signed(key: bytes, purpose: str, seconds: int) -> str:
    now = time.time()
    claims = {"aud": purpose, "issued": now, "exp": int(now) + seconds, "jti": secrets.token_urlsafe(12)}
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def _decoded(key: bytes, token: str, purpose: str) -> dict[str, Any]:
    required = ["aud", "exp", "jti", "issued"]
    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[_ALGORITHM], audience=purpose, options={"require": required}
        )
    except jwt.InvalidTokenError:
        raise _refusal() from None
    return claims


def _refusal() -> exceptions.Unauthenticated:
    return exceptions.Unauthenticated(
        "This browser has no key to the console, or its link has been used or is too old. "
        "Run `localvertex console`: it prints a link that opens it."
    )
