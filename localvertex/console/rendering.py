"""Templates: every value is escaped unless it is markup that a template has made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from localvertex import names
from localvertex.console.web import PREFIX, Page, Visit, address

NAVIGATION = (
    ("", "Home"),
    ("runs", "Runs"),
    ("schedules", "Schedules"),
    ("artifacts", "Artifacts"),
    ("tuning", "Tuning"),
    ("models", "Models"),
    ("endpoints", "Endpoints"),
    ("draw", "Try it"),
)
"""Where the links at the top of every page lead, and what they say."""


class Renderer:
    """Fills templates.

    Args:
        static: digest of the static files, so that a browser keeps them until they change.
    """

    def __init__(self, static: str) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("localvertex.console", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(
            address=address, navigation=NAVIGATION, static=f"{PREFIX}static/{static}/", id_of=names.id_of
        )
        self._environment.filters.update(
            moment=moment, duration=duration, size=size, number=number, location=names.location_of
        )
        self._parts = self._environment.get_template("parts.html")

    def page(self, page: Page, visit: Visit, token: str) -> str:
        """The whole document."""
        return self._environment.get_template(page.template).render(self._values(page, visit, token))

    def live(self, page: Page, visit: Visit, token: str) -> dict[str, str]:
        """The blocks that are kept up to date, by name."""
        template = self._environment.get_template(page.template)
        values = self._values(page, visit, token)
        return {name: "".join(template.blocks[name](template.new_context(values))) for name in page.live}

    def _values(self, page: Page, visit: Visit, token: str) -> dict[str, Any]:
        parts = self._parts.make_module({"token": token})
        return {"page": page, "visit": visit, "token": token, "ui": parts, **page.values}


def files(folder: str) -> Mapping[str, bytes]:
    """The files of a folder of this package by name."""
    found = resources.files(__package__).joinpath(folder)
    return {file.name: file.read_bytes() for file in found.iterdir() if file.is_file()}


def digest(contents: Mapping[str, bytes]) -> str:
    """A short digest of files."""
    told = hashlib.sha256()
    for name in sorted(contents):
        told.update(name.encode() + b"\0" + contents[name])
    return told.hexdigest()[:12]


def moment(seconds: float) -> Markup:
    """A time in seconds since 1970 as a person of this machine's time zone reads it; a dash for 0."""
    if not seconds:
        return Markup("—")
    when, now = datetime.fromtimestamp(seconds).astimezone(), datetime.now().astimezone()
    shown = "%H:%M:%S" if when.date() == now.date() else "%d %b %H:%M" if when.year == now.year else "%d %b %Y"
    exact = when.isoformat(timespec="seconds")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, when.strftime(shown).lstrip("0") or "0")


def duration(seconds: float | None) -> str:
    """Seconds as `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; a dash for None."""
    if seconds is None:
        return "—"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for unit, smaller, length, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def size(count: float) -> str:
    """Bytes as `812 bytes`, `4.1 KB`, `3.2 MB`."""
    if count < 1000:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    for unit in ("KB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} TB"


def number(value: Any) -> str:
    """A number with at most six digits that count; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
