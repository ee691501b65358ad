"""What a page is made of: what a browser asked for, and what it is to be shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import Response

PREFIX = "/console/"

# An answer that is not ours to vouch for is shown in an origin of its own, without scripts.
_FOREIGN = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self'"
)


class Form(ImmutableMultiDict[str, str]):
    """The fields of a form by name."""


@dataclass(frozen=True)
class Visit:
    """One request of a browser that has been let in.

    Args:
        path: what was asked for, without the console's prefix, decoded.
        arguments: the parts of the path that the route names, decoded.
        query: of the address.
        form: what a form of the console sends; it has come with the token of this browser's session.
        body: of a POST that is no form.
    """

    path: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    query: QueryParams = field(default_factory=QueryParams)
    form: Form = field(default_factory=Form)
    body: bytes = b""

    @property
    def name(self) -> str:
        """The resource name that the path is, without a `:verb` after it."""
        head, slash, last = self.path.rpartition("/")
        return f"{head}{slash}{last.partition(':')[0]}"

    def address(self, **changes: str | None) -> str:
        """This page's own address with some of its query changed; None takes a part away."""
        kept = [(name, value) for name, value in self.query.multi_items() if name not in changes]
        new = [(name, value) for name, value in changes.items() if value]
        return address(self.path) + _query([*kept, *new])


@dataclass(frozen=True)
class Page:
    """A template and what it shows.

    Args:
        template: file name in `templates/`.
        title: of the browser's tab; the template's `h1` says it too.
        values: what the template refers to.
        live: names of the template's blocks that are kept up to date while the page is open: each stands alone in an
            element with `data-live` and an `id` of the same name.
        ended: nothing of it will change any more.
        status: of HTTP.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    live: Sequence[str] = ()
    ended: bool = False
    status: int = 200


@dataclass(frozen=True)
class Redirect:
    """Go on to another address of the console, as after each form."""

    target: str


Answer = Page | Redirect | Response


@dataclass(frozen=True)
class Route:
    """What answers an address.

    Args:
        method: `GET`, or `POST` for what changes something.
        path: without the prefix; `{name}` stands for what is between two slashes, `{name:path}` for anything.
        answer: called in a thread; what it raises of google.api_core.exceptions is shown as a page, or as JSON under
            `api/`.
    """

    method: str
    path: str
    answer: Callable[[Visit], Answer]


class Section(Protocol):
    """Pages that belong together."""

    def routes(self) -> Sequence[Route]:
        """Their addresses."""


def address(path: str, /, **query: str | Sequence[str]) -> str:
    """The address of a page; a resource's page has its resource name for a path.

    Args:
        path: such as `schedules`, `projects/1/locations/us-central1/pipelineJobs/iris-1`.
        query: what follows the question mark; of a list, each.
    """
    return PREFIX + quote(path, safe="/:@~") + _query(list(query.items()))


def _query(pairs: Sequence[tuple[str, str | Sequence[str]]]) -> str:
    return f"?{urlencode(pairs, doseq=True)}" if pairs else ""


def foreign(content: bytes, media_type: str, *, download: str = "") -> Response:
    """Content that others have made, such as a task's HTML report: it can be looked at, and can do nothing.

    Args:
        media_type: such as `text/html`.
        download: the file name under which a browser is to save it, in place of showing it.
    """
    headers = {"Content-Security-Policy": _FOREIGN}
    if download:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(download, safe='')}"
    return Response(content, media_type=media_type, headers=headers)


def form_of(body: bytes) -> Form:
    """The fields of an ordinary form (application/x-www-form-urlencoded)."""
    try:
        return Form(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=1000))
    except ValueError:
        return Form()
