"""Filters, ordering and paging of lists, for any kind of resource.

The filter language is the part of AIP-160 that the Vertex AI reference documents for its lists; as there,
OR binds tighter than AND, and `*` in a text stands for any characters. What the store has a column for is
decided by the database, the rest on the message.

Sources: https://google.aip.dev/160, https://google.aip.dev/132#ordering,
https://cloud.google.com/vertex-ai/docs/ml-metadata/analyzing
"""

from __future__ import annotations

import base64
import hashlib
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any, Generic, Literal

import lark
import proto
import sqlalchemy as sa
from google.api_core import exceptions
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from localvertex import names
from localvertex.store import Resource, Store, kind_of, parse, resources

DEFAULT_PAGE, MAX_PAGE = 100, 1000
MAX_DEPTH = 5
"""How deep parentheses may nest, as the metadata lists document it."""

_SCAN = 200
"""How many messages are read at a time when some of them will not pass."""

_FEW = 1000
"""A relation that holds for at most this many is where a search begins; a larger one is asked row by row."""

Related = Callable[[str], sa.Select[str]]

_GRAMMAR = r"""
    start: conjunction?
    conjunction: disjunction (_AND disjunction)*
    disjunction: _term (_OR _term)*
    _term: negation | group | call | comparison
    negation: _NOT _term
    group: "(" conjunction ")"
    call: NAME "(" STRING ")"
    comparison: path COMPARATOR value ("," value)*
    path: NAME ("." (NAME | STRING))*
    value: STRING | WORD

    _AND.2: /AND(?!\w)/
    _OR.2: /OR(?!\w)/
    _NOT.2: /NOT(?!\w)/
    COMPARATOR: "!=" | "<=" | ">=" | "=" | "<" | ">" | ":"
    NAME: /\w[\w-]*/
    WORD: /[\w*+.-][^\s(),"']*/
    STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
    %ignore /\s+/
"""
_PARSER = lark.Lark(_GRAMMAR, parser="lalr", lexer="contextual", propagate_positions=True)
_SPOKEN = {
    **{
        "NAME": "a field",
        "STRING": "a quoted text",
        "WORD": "a value",
        "COMPARATOR": "a comparison (= != < > <= >= :)",
    },
    **{"_AND": "AND", "_OR": "OR", "_NOT": "NOT", "LPAR": "'('", "RPAR": "')'", "COMMA": "','", "DOT": "'.'"},
    "$END": "the end",
}
_ORDERINGS: Mapping[str, Callable[[Any, Any], Any]] = {
    **{"=": operator.eq, ":": operator.eq, "!=": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
_EQUALITIES = ("=", "!=", ":")

Tree = lark.Tree[lark.Token]


@dataclass(frozen=True)
class Relations:
    """What filters may ask beyond a resource's own fields; each gives a query of the names it holds for.

    Args:
        functions: `in_context("name")`.
        collections: `parent_contexts:"name"`.
    """

    functions: Mapping[str, Related] = field(default_factory=dict)
    collections: Mapping[str, Related] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Leaf:
    """One comparison, decided either by the database (`where`) or on the message (`test`).

    Args:
        narrows: beside `test`, a condition that whatever passes it fulfils.
        names: beside `where`, a query of the names that it holds for, when there is one.
    """

    where: sa.ColumnElement[bool] | None = None
    test: Callable[[Message], bool] | None = None
    narrows: sa.ColumnElement[bool] | None = None
    names: sa.Select[str] | None = None


@dataclass(frozen=True, eq=False)
class Combination:
    """Conditions joined by AND, OR or NOT."""

    operator: Literal["and", "or", "not"]
    parts: tuple[Condition, ...]


Condition = Leaf | Combination


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

    Returns:
        The resources, and the token of the next page, '' after the last.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and at which position.
    """
    condition = parse_filter(kind, filter, relations)
    order = _Order.parse(kind, order_by)
    size = _page_size(page_size, maximum)
    question = hashlib.sha256(json.dumps([kind_of(kind), parent, filter, order_by]).encode()).hexdigest()[:16]
    scan = _Scan(store, kind, condition, _under(parent, where))
    page: list[Resource] = []
    position: list[Any] = []
    for keys, resource in order.walk(scan, _read_token(page_token, question, len(order.keys)), size + 1):
        if len(page) == size:
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
    scan = _Scan(store, kind, parse_filter(kind, filter, relations), _under(parent, where))
    return (resource for _, resource in _Order.parse(kind, "").walk(scan, None, _SCAN))


def parse_filter(kind: type[proto.Message], filter: str, relations: Relations | None = None) -> Condition:
    """What a filter asks of a kind of resource.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and at which position (counted from 1).
    """
    try:
        tree = _PARSER.parse(filter)
    except lark.exceptions.UnexpectedInput as error:
        raise _syntax_error(filter, error) from None
    return _Compiler(kind, filter, relations or Relations()).join("and", tree.children)


class _Compiler:
    """Turns a parsed filter into conditions on one kind of resource."""

    def __init__(self, kind: type[proto.Message], filter: str, relations: Relations) -> None:
        self._kind = kind
        self._filter = filter
        self._relations = relations
        self._depth = 0

    def join(self, operator: Literal["and", "or", "not"], trees: Sequence[Any]) -> Condition:
        parts = tuple(self._condition(tree) for tree in trees)
        return parts[0] if len(parts) == 1 and operator != "not" else Combination(operator, parts)

    def _condition(self, tree: Tree) -> Condition:
        match tree.data:
            case "conjunction":
                return self.join("and", tree.children)
            case "disjunction":
                return self.join("or", tree.children)
            case "negation":
                return self.join("not", tree.children)
            case "group":
                return self._group(tree)
            case "call":
                return self._call(tree)
            case _:
                return self._comparison(tree)

    def _group(self, tree: Tree) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(tree, f"parentheses nest deeper than {MAX_DEPTH} levels")
        condition = self.join("and", tree.children)
        self._depth -= 1
        return condition

    def _call(self, tree: Tree) -> Condition:
        name, argument = (str(child) for child in tree.children)
        known = self._relations.functions
        if name not in known:
            raise self._error(tree, f"{_kind(self._kind)} filters have no function {name}{_of(known)}")
        return _related(known[name], _unquote(argument))

    def _comparison(self, tree: Tree) -> Condition:
        path, comparator, *values = tree.children
        assert isinstance(path, lark.Tree)
        if len(values) > 1 and comparator != ":":
            raise self._error(tree, f"'{comparator}' takes one value; quote a value that holds commas")
        return self._all([self._leaf(path, str(comparator), value) for value in values])

    def _all(self, leaves: Sequence[Leaf]) -> Condition:
        return leaves[0] if len(leaves) == 1 else Combination("and", tuple(leaves))

    def _leaf(self, path: Tree, comparator: str, value: Any) -> Leaf:
        segments = [_unquote(str(segment)) for segment in path.children]
        text = _unquote(str(value.children[0]))
        if len(segments) == 1 and segments[0] in self._relations.collections:
            if comparator != ":":
                raise self._error(path, f"{segments[0]} supports only ':', not '{comparator}'")
            return _related(self._relations.collections[segments[0]], text)
        try:
            found = _field(self._kind, segments)
        except _Unsupported as problem:
            raise self._error(path, str(problem)) from None
        try:
            return found.compare(comparator, text)
        except _Unsupported as problem:
            raise self._error(value, f"{'.'.join(segments)} {problem}") from None

    def _error(self, tree: Tree, problem: str) -> exceptions.InvalidArgument:
        return _invalid(self._filter, tree.meta.start_pos, problem)


class _Unsupported(Exception):
    """What is wrong with a field or a value; the caller knows where."""


@dataclass(frozen=True)
class _Field:
    """One thing of a message to compare.

    Args:
        type: text, number, bool, time (microseconds since 1970), an enum, many (texts), message, or any
            (a Struct's value of a type that only the message knows).
        get: its value in a message; None where the message has none.
        column: the column of `resources` that holds the same.
    """

    type: Literal["text", "number", "bool", "time", "many", "message", "any"] | EnumDescriptor
    get: Callable[[Any], Any]
    column: sa.Column[Any] | None = None

    def compare(self, comparator: str, text: str) -> Leaf:
        if comparator == ":" and text == "*":
            return Leaf(test=lambda message: _is_present(self.get(message)))
        match self.type:
            case "text":
                return self._compare_text(comparator, text)
            case "number":
                return self._compare_ordered(comparator, _number(text))
            case "time":
                return self._compare_ordered(comparator, _microseconds(text))
            case "bool":
                return self._compare_equal(comparator, _boolean(text))
            case "many":
                return self._has(comparator, text)
            case "any":
                raise _Unsupported("needs the type of its value after the key, as in metadata.loss.number_value")
            case "message":
                raise _Unsupported("is a message: it supports only ':*', or a comparison of one of its fields")
            case _:
                return self._compare_equal(comparator, _enum_number(self.type, text))

    def _compare_text(self, comparator: str, text: str) -> Leaf:
        if "*" not in text:
            return self._compare_equal(comparator, text)
        _check(comparator, _EQUALITIES)
        matches = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL).fullmatch
        if comparator == "!=":
            return self._tested(lambda value: not matches(value))
        like = None
        if self.column is not None:
            like = self.column.like("%".join(map(_like_escaped, text.split("*"))), escape="\\")
        return self._tested(lambda value: matches(value) is not None, like)

    def _compare_equal(self, comparator: str, wanted: Any) -> Leaf:
        _check(comparator, _EQUALITIES)
        return self._compare_ordered(comparator, wanted)

    def _compare_ordered(self, comparator: str, wanted: Any) -> Leaf:
        compare = _ORDERINGS[comparator]
        if self.column is not None:
            # The column of a time holds seconds, made of whole microseconds by this same division.
            return Leaf(where=compare(self.column, wanted / 1_000_000 if self.type == "time" else wanted))
        return self._tested(lambda value: bool(compare(value, wanted)))

    def _has(self, comparator: str, text: str) -> Leaf:
        _check(comparator, (":",))
        return self._tested(lambda values: text in values)

    def _tested(self, test: Callable[[Any], bool], narrows: sa.ColumnElement[bool] | None = None) -> Leaf:
        def passes(message: Message) -> bool:
            value = self.get(message)
            return value is not None and test(value)

        return Leaf(test=passes, narrows=narrows)


def _related(relation: Related, name: str) -> Leaf:
    names = relation(name)
    return Leaf(where=names.where(names.selected_columns[0] == resources.c.name).exists(), names=names)


def _field(kind: type[proto.Message], segments: Sequence[str]) -> _Field:
    """The field at a path, whose names may be snake_case or camelCase.

    Raises:
        _Unsupported: there is none, or it cannot be compared.
    """
    descriptor: Descriptor = kind.meta.pb.DESCRIPTOR
    alias = _alias(kind, descriptor, segments)
    if alias is not None:
        return alias
    return _walk(descriptor, list(segments), lambda message: message)


def _alias(kind: type[proto.Message], descriptor: Descriptor, segments: Sequence[str]) -> _Field | None:
    """Fields that only lists know: a column's, or `model` for a Model's id."""
    if len(segments) != 1:
        return None
    name = _snake(segments[0])
    own = name in descriptor.fields_by_name
    if own and name in ("name", "display_name", "schema_title", "uri"):
        return _Field("text", operator.attrgetter(name), resources.c[name])
    if own and name in ("create_time", "update_time"):
        column = resources.c.created if name == "create_time" else resources.c.updated
        return _Field("time", _walk(descriptor, [name], lambda message: message).get, column)
    if own and name == "state" and (enum := descriptor.fields_by_name[name].enum_type) is not None:
        return _Field(enum, operator.attrgetter(name), resources.c.state)
    if not own and name in (_snake(kind.__name__), _snake(kind.__name__) + "_user_id"):
        return _Field("text", _id_in(f"{kind.__name__[0].lower()}{kind.__name__[1:]}s"))
    if not own and name == "pipeline_name" and "pipeline_spec" in descriptor.fields_by_name:
        path = ["pipeline_spec", "pipelineInfo", "struct_value", "name", "string_value"]
        return _walk(descriptor, path, lambda message: message)
    return None


def _id_in(collection: str) -> Callable[[Any], Any]:
    # Not always the last segment: a Model's versions hang under its id.
    found = re.compile(rf"/{collection}/([^/@]+)").search

    def get(message: Any) -> str:
        match = found(message.name)
        return match[1] if match else names.id_of(message.name)

    return get


def _walk(descriptor: Descriptor, segments: list[str], get: Callable[[Any], Any]) -> _Field:
    if descriptor.full_name == "google.protobuf.Struct":
        return _walk_struct(segments, get)
    if descriptor.full_name == "google.protobuf.Timestamp" and not segments:
        return _Field("time", _then(get, lambda time: time.ToMicroseconds()))
    if not segments:
        return _Field("message", get)
    found = descriptor.fields_by_name.get(segments[0]) or descriptor.fields_by_name.get(_snake(segments[0]))
    if found is None:
        raise _Unsupported(f"{descriptor.name} has no field {segments[0]}")
    rest = segments[1:]
    if found.message_type is not None and found.message_type.GetOptions().map_entry:
        entries = _then(get, operator.attrgetter(found.name))
        return _walk_map(found.message_type.fields_by_name["value"], rest, entries)
    if found.is_repeated:
        return _walk_repeated(found, rest, get)
    if found.message_type is not None:
        return _walk(found.message_type, rest, _then(get, _submessage(found.name)))
    return _scalar(found, rest, _then(get, operator.attrgetter(found.name)))


def _walk_map(value: FieldDescriptor, segments: list[str], entries: Callable[[Any], Any]) -> _Field:
    if not segments:
        return _Field("many", entries)
    key, *rest = segments
    item = _then(entries, lambda mapping: mapping.get(key))
    if value.message_type is not None:
        return _walk(value.message_type, rest, item)
    return _scalar(value, rest, item)


def _walk_repeated(found: FieldDescriptor, segments: list[str], get: Callable[[Any], Any]) -> _Field:
    if segments or found.type != FieldDescriptor.TYPE_STRING:
        raise _Unsupported(f"comparing inside the repeated field {found.name} is not supported")
    return _Field("many", _then(get, operator.attrgetter(found.name)))


def _walk_struct(segments: list[str], get: Callable[[Any], Any]) -> _Field:
    """`metadata.<key>.<type_value>`, as the metadata reference documents it."""
    if not segments:
        return _Field("many", _then(get, operator.attrgetter("fields")))
    key, *rest = segments
    value = _then(get, lambda struct: struct.fields.get(key))
    types: dict[str, Literal["text", "number", "bool"]]
    types = {"string_value": "text", "number_value": "number", "bool_value": "bool"}
    if not rest:
        return _Field("any", value)
    chosen = _then(value, lambda it: getattr(it, rest[0]) if it.WhichOneof("kind") == rest[0] else None)
    if rest[0] == "struct_value":
        return _walk_struct(rest[1:], chosen)
    if rest[0] not in types or len(rest) > 1:
        raise _Unsupported(
            f'after the key "{key}" say the type of its value: {", ".join(types)}, or struct_value and a key'
        )
    return _Field(types[rest[0]], chosen)


def _scalar(found: FieldDescriptor, segments: list[str], get: Callable[[Any], Any]) -> _Field:
    if segments:
        raise _Unsupported(f"{found.name} has no field {segments[0]}")
    if found.enum_type is not None:
        return _Field(found.enum_type, get)
    if found.type == FieldDescriptor.TYPE_STRING:
        return _Field("text", get)
    if found.type == FieldDescriptor.TYPE_BOOL:
        return _Field("bool", get)
    if found.type == FieldDescriptor.TYPE_BYTES:
        raise _Unsupported(f"{found.name} holds bytes, which cannot be compared")
    return _Field("number", get)


def _then(get: Callable[[Any], Any], go_on: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def both(message: Any) -> Any:
        value = get(message)
        return None if value is None else go_on(value)

    return both


def _submessage(name: str) -> Callable[[Any], Any]:
    return lambda message: getattr(message, name) if message.HasField(name) else None


def _is_present(value: Any) -> bool:
    # Numbers, times and flags that are there count even when zero; texts and collections when not empty.
    return value is not None and not (hasattr(value, "__len__") and len(value) == 0)


def _check(comparator: str, supported: Sequence[str]) -> None:
    if comparator not in supported:
        raise _Unsupported(f"does not support '{comparator}', only {' '.join(supported)}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _Unsupported(f'is compared with a number, and "{text}" is none') from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise _Unsupported(f'is compared with true or false, not with "{text}"')
    return text == "true"


def _enum_number(enum: EnumDescriptor, text: str) -> int:
    if text not in enum.values_by_name:
        raise _Unsupported(f'has no value "{text}"{_of(enum.values_by_name)}')
    return int(enum.values_by_name[text].number)


def _microseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _Unsupported(f'is compared with an RFC 3339 time such as 2020-11-19T11:30:00Z, not with "{text}"')
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class _Scan(Generic[Resource]):
    """The resources of a kind that pass a condition, read from the store in the order of some columns."""

    def __init__(
        self,
        store: Store,
        kind: type[Resource],
        condition: Condition,
        where: Sequence[sa.ColumnElement[bool]],
    ) -> None:
        self.store = store
        self.kind = kind
        self._condition = condition
        self._where = [*self._begin(), *where, _narrowed(condition)]
        self._exact = _is_exact(condition)
        self._leaves = [] if self._exact else [leaf for leaf in _leaves(condition) if leaf.where is not None]

    def walk(
        self, keys: Sequence[_Key], after: Sequence[Any] | None, batch: int
    ) -> Iterator[tuple[list[Any], Resource]]:
        """Resources with the values of their keys, beginning after a position."""
        batch = batch if self._exact else max(batch, _SCAN)
        columns = [key.column for key in keys if key.column is not None]
        verdicts = [leaf.where.label(f"leaf_{i}") for i, leaf in enumerate(self._leaves) if leaf.where is not None]
        order = [key.column.desc() if key.descends else key.column for key in keys if key.column is not None]
        query = sa.select(resources.c.body, *columns, *verdicts).where(*self._where).order_by(*order).limit(batch)
        while True:
            page = query if after is None else query.where(_beyond(keys, after))
            with self.store.read() as connection:
                rows = connection.execute(page).all()
            for body, *values in rows:
                after, decided = values[: len(columns)], values[len(columns) :]
                resource = parse(self.kind, body)
                if self._passes(resource, decided):
                    yield after, resource
            if len(rows) < batch:
                return

    def _begin(self) -> Iterator[sa.ColumnElement[bool]]:
        """Where the database is to begin: at the few names that a relation holds for, or with the kind."""
        for leaf in _conjuncts(self._condition):
            if leaf.names is not None and self._are_few(leaf.names):
                yield resources.c.name.in_(leaf.names)
                # Wrapped, the kind is no use for an index: only the one by name remains.
                yield sa.func.coalesce(resources.c.kind, "") == kind_of(self.kind)
                return
        yield resources.c.kind == kind_of(self.kind)

    def _are_few(self, names: sa.Select[str]) -> bool:
        with self.store.read() as connection:
            return len(connection.execute(names.limit(_FEW + 1)).all()) <= _FEW

    def _passes(self, resource: Resource, decided: Sequence[Any]) -> bool:
        if self._exact:
            return True
        verdicts = {id(leaf): bool(verdict) for leaf, verdict in zip(self._leaves, decided, strict=True)}
        return _decide(self._condition, type(resource).pb(resource), verdicts)


def _decide(condition: Condition, message: Message, verdicts: Mapping[int, bool]) -> bool:
    if isinstance(condition, Leaf):
        return verdicts[id(condition)] if condition.test is None else condition.test(message)
    parts = (_decide(part, message, verdicts) for part in condition.parts)
    if condition.operator == "not":
        return not next(parts)
    return all(parts) if condition.operator == "and" else any(parts)


def _leaves(condition: Condition) -> Iterator[Leaf]:
    if isinstance(condition, Leaf):
        yield condition
    else:
        for part in condition.parts:
            yield from _leaves(part)


def _conjuncts(condition: Condition) -> Iterator[Leaf]:
    """The comparisons that whatever passes the condition must pass."""
    if isinstance(condition, Leaf):
        yield condition
    elif condition.operator == "and":
        for part in condition.parts:
            yield from _conjuncts(part)


def _is_exact(condition: Condition) -> bool:
    return all(leaf.where is not None for leaf in _leaves(condition))


def _narrowed(condition: Condition) -> sa.ColumnElement[bool]:
    """What the database can tell: whatever passes the condition fulfils this."""
    if isinstance(condition, Leaf):
        known = condition.where if condition.where is not None else condition.narrows
        return sa.true() if known is None else known
    if condition.operator == "not":
        return sa.not_(_narrowed(condition.parts[0])) if _is_exact(condition) else sa.true()
    parts = [_narrowed(part) for part in condition.parts]
    return sa.and_(sa.true(), *parts) if condition.operator == "and" else sa.or_(sa.false(), *parts)


@dataclass(frozen=True)
class _Key:
    """One field to order by: a column, or what `get` finds in the message."""

    get: Callable[[Any], Any]
    column: sa.Column[Any] | None
    descends: bool = False


_BY_NAME = _Key(operator.attrgetter("name"), resources.c.name)
_NEWEST_FIRST = (_Key(operator.attrgetter("create_time"), resources.c.created, descends=True), _BY_NAME)


@dataclass(frozen=True)
class _Order:
    """The order of a list; the last key is always the name, so that no two resources are equal."""

    keys: Sequence[_Key]

    @classmethod
    def parse(cls, kind: type[proto.Message], order_by: str) -> _Order:
        """The order that an `order_by` asks for.

        Raises:
            google.api_core.exceptions.InvalidArgument: naming the part that cannot be ordered by.
        """
        if not order_by.strip():
            return cls(_NEWEST_FIRST)
        return cls((*(_order_key(kind, part.strip()) for part in order_by.split(",")), _BY_NAME))

    def walk(
        self, scan: _Scan[Resource], after: Sequence[Any] | None, batch: int
    ) -> Iterator[tuple[list[Any], Resource]]:
        """What a scan finds, in this order, beginning after a position."""
        if all(key.column is not None for key in self.keys):
            yield from scan.walk(self.keys, after, batch)
            return
        # Only positions are held, not messages: a run's message can be large.
        positions = [
            [key.get(type(resource).pb(resource)) for key in self.keys]
            for _, resource in scan.walk(_NEWEST_FIRST, None, _SCAN)
        ]
        positions.sort(key=cmp_to_key(self._compare))
        if after is not None:
            positions = [position for position in positions if self._compare(position, after) > 0]
        for start in range(0, len(positions), batch):
            some = positions[start : start + batch]
            found = scan.store.find_all(scan.kind, [position[-1] for position in some])
            there = {str(resource.name): resource for resource in found}
            yield from ((position, there[position[-1]]) for position in some if position[-1] in there)

    def _compare(self, one: Sequence[Any], other: Sequence[Any]) -> int:
        for key, mine, theirs in zip(self.keys, one, other, strict=True):
            if mine != theirs:
                # A message without the field comes before all that have it.
                less = mine is None or (theirs is not None and mine < theirs)
                return -1 if less != key.descends else 1
        return 0


def _order_key(kind: type[proto.Message], part: str) -> _Key:
    path, _, direction = part.partition(" ")
    if direction.strip() not in ("", "asc", "desc"):
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": after a field comes "desc", "asc" or nothing.')
    try:
        found = _field(kind, path.split("."))
    except _Unsupported as problem:
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": {problem}.') from None
    if found.type in ("many", "message", "any"):
        raise exceptions.InvalidArgument(f'Invalid order_by "{part}": {path} has no order.')
    return _Key(found.get, found.column, descends=direction.strip() == "desc")


def _beyond(keys: Sequence[_Key], position: Sequence[Any]) -> sa.ColumnElement[bool]:
    """A condition on `resources`: to come after a position in the order of the keys."""
    beyond: sa.ColumnElement[bool] = sa.false()
    for key, value in reversed(list(zip(keys, position, strict=True))):
        assert key.column is not None
        further = key.column < value if key.descends else key.column > value
        beyond = sa.or_(further, sa.and_(key.column == value, beyond))
    first, value = keys[0], position[0]
    assert first.column is not None
    # Says nothing new, but lets the database begin reading an index at the position.
    return sa.and_(first.column <= value if first.descends else first.column >= value, beyond)


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


def _syntax_error(filter: str, error: lark.exceptions.UnexpectedInput) -> exceptions.InvalidArgument:
    expected = getattr(error, "accepts", None) or getattr(error, "allowed", None) or ()
    spoken = ", ".join(sorted({_SPOKEN.get(name, name) for name in expected}))
    position = error.pos_in_stream
    if position is None or getattr(getattr(error, "token", None), "type", "") == "$END":
        position = len(filter)
    return _invalid(filter, position, f"expected {spoken}" if spoken else "unexpected text")


def _invalid(filter: str, position: int, problem: str) -> exceptions.InvalidArgument:
    near = filter[position : position + 30] or "the end"
    return exceptions.InvalidArgument(f"Invalid filter at position {position + 1} ({near}): {problem}.")


def _of(known: Mapping[str, Any]) -> str:
    return f"; there is: {', '.join(known)}" if known else ""


def _kind(kind: type[proto.Message]) -> str:
    return kind_of(kind)


def _like_escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[:1] in ("'", '"') else text
