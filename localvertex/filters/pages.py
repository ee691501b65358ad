"""Lists of resources: a page at a time, or all.

Source: https://google.aip.dev/158
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from google.api_core import exceptions

from localvertex.filters.language import Relations, parse_filter
from localvertex.filters.ordering import parse_order
from localvertex.filters.scan import Scan
from localvertex.store import Resource, Store, kind_of, resources

DEFAULT_PAGE, MAX_PAGE = 100, 1000

PAGE_BYTES = 192 << 10
"""A page ends early when its messages have come to this much; a run with its details can be large."""


def listing(
    store: Store,
    kind: type[Resource],
    parent: str | None,
    filter: str = "",
    order_by: str = "",
    page_size: int = 0,
    page_token: str = "",
    *,
    where: Sequence[sa.ColumnElement[bool]] = (),
    relations: Relations | None = None,
    maximum: int = MAX_PAGE,
    page_bytes: int = PAGE_BYTES,
) -> tuple[list[Resource], str]:
    """One page of the resources of a kind, newest first unless ordered otherwise.

    Whatever is created or deleted meanwhile, pages repeat no resource and skip none that was there all along.

    Args:
        parent: only those directly under this resource name; None for all.
        order_by: `create_time desc, display_name`.
        page_size: at most this many; 0 for 100.
        page_token: where the page before said to go on; the filter and the order must be the same.
        where: more conditions, on the columns of `resources`.
        relations: what the filter may use beside the fields.
        maximum: page sizes above it mean this many.
        page_bytes: end the page when its messages have come to this much, though it be short (AIP-158).

    Returns:
        The resources, and the token of the next page, '' after the last.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and at which position.
    """
    condition = parse_filter(kind, filter, relations)
    order = parse_order(kind, order_by)
    size = _page_size(page_size, maximum)
    question = hashlib.sha256(json.dumps([kind_of(kind), parent, filter, order_by]).encode()).hexdigest()[:16]
    scan = Scan(store, kind, condition, _under(parent, where))
    page: list[Resource] = []
    position: list[Any] = []
    weight = 0
    for keys, resource in scan.walk(order, _read_token(page_token, question, len(order.keys)), size + 1):
        weight += type(resource).pb(resource).ByteSize()
        if len(page) == size or (page and weight > page_bytes):
            return page, _write_token(question, position)
        page.append(resource)
        position = keys
    return page, ""


def matching(
    store: Store,
    kind: type[Resource],
    parent: str | None,
    filter: str,
    *,
    where: Sequence[sa.ColumnElement[bool]] = (),
    relations: Relations | None = None,
) -> Iterator[Resource]:
    """Every resource of a kind that passes a filter, newest first; the arguments are those of `listing`.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong with the filter, and at which position.
    """
    scan = Scan(store, kind, parse_filter(kind, filter, relations), _under(parent, where))
    return (resource for _, resource in scan.walk())


def _under(parent: str | None, where: Sequence[sa.ColumnElement[bool]]) -> list[sa.ColumnElement[bool]]:
    return [*where] if parent is None else [resources.c.parent == parent, *where]


def _page_size(page_size: int, maximum: int) -> int:
    if page_size < 0:
        raise exceptions.InvalidArgument(f"page_size must be from 1 to {maximum}, not {page_size}.")
    return min(page_size or DEFAULT_PAGE, maximum)


def _write_token(question: str, position: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([question, *position]).encode()).decode()


def _read_token(token: str, question: str, length: int) -> list[Any] | None:
    if not token:
        return None
    try:
        asked, *position = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        asked, position = None, []
    if asked != question or len(position) != length:
        raise exceptions.InvalidArgument(
            "page_token does not belong to this list: send the filter and order_by of the call that gave it."
        )
    return list(position)
