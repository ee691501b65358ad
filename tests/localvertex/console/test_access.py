"""Protects who can look at the console: nobody without its one-time link, and no page of another origin or host."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from importlib import resources
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from google.api_core import exceptions

from localvertex.access import Access, client_token
from localvertex.console import sessions
from localvertex.console.frontend import BODY_LIMIT
from localvertex.console.sessions import Sessions, new_code
from localvertex.home import Home
from tests.localvertex.console.support import Console

PAGES = ["", "draw", "static/draw.js", "static/console.css", "nothing"]


@pytest.fixture
def stranger(console: Console) -> httpx.Client:
    return httpx.Client(base_url=f"{console.address}/console/")


@pytest.fixture
def person(console: Console, stranger: httpx.Client) -> httpx.Client:
    """Somebody whose browser has opened a link."""
    assert stranger.get(console.link()).status_code == 200
    stranger.headers["Origin"] = console.address
    return stranger


def typed(console: Console) -> str:
    """The link that the command prints."""
    command = [sys.executable, "-m", "localvertex", "console", "--json", f"--home={console.home.path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["url"])


def raw(console: Console, path: str, cookie: str = "", host: str = "127.0.0.1") -> int:
    """The status of a path that no client library has tidied."""
    connection = http.client.HTTPConnection(urlsplit(console.address).netloc)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    connection.putheader("Cookie", cookie)
    connection.endheaders()
    return connection.getresponse().status


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_locked(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401 and answer.headers["content-type"].startswith("text/html")
    assert "localvertex console" in answer.text


def test_calls_are_locked(console: Console, stranger: httpx.Client) -> None:
    assert stranger.get("api/endpoints").json()["error"]["status"] == "UNAUTHENTICATED"
    answer = stranger.post("api/predict", json={}, headers={"Origin": console.address})
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_a_link_opens_the_console_once(console: Console, stranger: httpx.Client) -> None:
    link = typed(console)
    answer = stranger.get(link)
    cookie = answer.headers["set-cookie"]
    assert answer.headers["refresh"] == "0; url=/console/" and "code" not in answer.text
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/console/", "Max-Age="):
        assert attribute in cookie
    assert stranger.get("draw").status_code == 200
    assert httpx.get(link).status_code == 401, "it works once"
    again = stranger.get(link)
    assert again.status_code == 200 and "set-cookie" not in again.headers, "but is no harm where it has been opened"


def test_a_link_leads_to_any_page(console: Console, stranger: httpx.Client) -> None:
    code = parse_qs(urlsplit(console.link()).query)["code"][0]
    answer = stranger.get(f"draw?endpoint=a/b%22%3E&code={code}")
    assert answer.headers["refresh"] == "0; url=/console/draw?endpoint=a%2Fb%22%3E"


def test_what_opens_one_door_opens_no_other(console: Console, stranger: httpx.Client) -> None:
    """Bearer token, link, cookie: each is taken for what it is, and those of another folder not at all."""
    know = Sessions(console.home)
    cookie, bearer, code = know.open(new_code(console.home)), client_token(console.home), new_code(console.home)
    for wrong in (bearer, cookie, "", "x", jwt.encode({"aud": "console-link"}, "", algorithm="none")):
        assert stranger.get("draw", params={"code": wrong}).status_code == 401
    for wrong in (bearer, code):
        assert stranger.get("draw", headers={"Cookie": f"{know.cookie}={wrong}"}).status_code == 401
    for wrong in (cookie, code):
        api = httpx.get(f"{console.address}/localvertex/v1/runs", headers={"Authorization": f"Bearer {wrong}"})
        assert api.status_code == 401
    assert stranger.get("draw", headers={"Authorization": f"Bearer {bearer}"}).status_code == 401


def test_links_age_and_sessions_outlive_the_server(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = Home(tmp_path / "a").create(), Home(tmp_path / "b").create()
    Access(home), Access(other)  # which make the keys
    before = Sessions(home)
    cookie, unopened = before.open(new_code(home)), new_code(home)
    after = Sessions(home)
    after.check(cookie)
    assert before.cookie == after.cookie != Sessions(other).cookie
    with pytest.raises(exceptions.Unauthenticated):
        after.open(unopened)  # the new server cannot know whether it has been used
    with pytest.raises(exceptions.Unauthenticated):
        Sessions(other).check(cookie)
    monkeypatch.setattr(sessions, "LINK_SECONDS", -1)
    monkeypatch.setattr(sessions, "SESSION_SECONDS", -1)
    with pytest.raises(exceptions.Unauthenticated):
        after.open(new_code(home))
    monkeypatch.setattr(sessions, "LINK_SECONDS", 60)
    with pytest.raises(exceptions.Unauthenticated):
        after.check(after.open(new_code(home)))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", ""])
def test_a_foreign_host_name_is_refused(console: Console, person: httpx.Client, host: str) -> None:
    (cookie,) = (f"{name}={value}" for name, value in person.cookies.items())
    for path in ("/console/draw", "/console/api/endpoints"):
        assert raw(console, path, cookie, host) == 403
        # On a connection that is open already, on which the proxy no longer looks.
        with httpx.Client(base_url=console.address, headers={"Cookie": cookie}) as kept:
            assert kept.get(path).status_code == 200
            assert kept.get(path, headers={"Host": host or "x"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", "https://{host}"])
def test_a_post_of_another_origin_is_refused(console: Console, person: httpx.Client, origin: str) -> None:
    body = {"endpoint": "projects/1/locations/us-central1/endpoints/1", "instances": [1]}
    assert person.post("api/predict", json=body).status_code == 404, "there is no such endpoint, but it was looked for"
    foreign = origin.format(host=urlsplit(console.address).netloc)
    answer = person.post("api/predict", json=body, headers={"Origin": foreign})
    assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    asked = person.options("api/predict", headers={"Origin": foreign, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 403
    for each in (answer, asked, person.get("api/endpoints", headers={"Origin": foreign})):
        assert not [name for name in each.headers if name.startswith("access-control-")]


def test_a_form_needs_its_session_s_token(console: Console, person: httpx.Client) -> None:
    """Beside the Origin: a page of the console itself cannot be made to send what it has no form for."""
    know = Sessions(console.home)
    (cookie,) = person.cookies.values()
    action = "projects/1/locations/us-central1/schedules/1:pause"
    assert person.post(action, data={"token": know.token(cookie)}).status_code == 404, "there is no such schedule"
    other = know.token(know.open(new_code(console.home)))
    for wrong in ({"other": "x"}, {"token": ""}, {"token": other}, {"token": "é"}, {"token": cookie}):
        assert person.post(action, data=wrong).status_code == 403
    assert person.post(action, content=b"token=x", headers={"Content-Type": "text/plain"}).status_code == 400
    right = {"token": know.token(cookie)}
    assert person.post(action, data=right, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.post(f"{console.address}/console/{action}", data=right).status_code in (401, 403)
    assert person.get(action).status_code == 404, "a link changes nothing"


def test_what_pages_are_told_while_open_is_for_those_let_in(person: httpx.Client, stranger: httpx.Client) -> None:
    events = {"Accept": "text/event-stream"}
    assert httpx.get(f"{stranger.base_url}schedules", headers=events).status_code == 401
    with person.stream("GET", "schedules", headers=events) as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        assert "default-src 'none'" in told.headers["content-security-policy"]
        assert next(told.iter_lines()).startswith('data: {"schedules": ')


@pytest.mark.parametrize(
    "path",
    [
        "static/../frontend.py",
        "static/..%2ffrontend.py",
        "static/%2e%2e/sessions.py",
        "static/....//sessions.py",
        "static//etc/passwd",
        "static/%00",
        "static/",
        "static",
        "../localvertex/v1/runs",
        "api/nothing",
    ],
)
def test_no_other_file_is_served(console: Console, person: httpx.Client, path: str) -> None:
    (cookie,) = (f"{name}={value}" for name, value in person.cookies.items())
    assert raw(console, f"/console/{path}", cookie) == 404


def test_requests_are_bounded_and_checked(person: httpx.Client) -> None:
    assert person.post("api/predict", content=b"x" * (BODY_LIMIT + 1)).status_code == 413
    for body in (b"", b"[]", b"{", b'{"endpoint": 1}', b'{"endpoint": "a", "instances": 1}', b"[" * 100_000):
        answer = person.post("api/predict", content=body)
        assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", ["draw", "static/draw.js", "api/endpoints", "nothing"])
def test_every_answer_forbids_foreign_content(person: httpx.Client, path: str) -> None:
    headers = person.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_pages_hold_no_inline_script_and_fetch_nothing_from_outside() -> None:
    console = resources.files("localvertex.console")
    for file in (*console.joinpath("static").iterdir(), *console.joinpath("templates").iterdir()):
        text = file.read_text()
        assert not re.findall(r"(?:src|href|url|import|from)\W{1,3}(?:https?:)?//", text), file.name
        if file.name.endswith(".html"):
            assert not re.findall(r"<style|\son\w+=|style=|javascript:", text), file.name
            assert all('src="' in tag for tag in re.findall(r"<script[^>]*>", text)), file.name


def test_the_command_starts_the_server_and_prints_the_link(tmp_path) -> None:
    def run(command: str) -> str:
        arguments = [sys.executable, "-m", "localvertex", command, f"--home={tmp_path / 'state'}"]
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout

    try:
        link, note = run("console").splitlines()
        assert httpx.get(link).status_code == 200 and "works once" in note
    finally:
        run("stop")
