"""The filter language: the part of AIP-160 that the Vertex AI reference documents for its lists.

As there, OR binds tighter than AND, and `*` in a text stands for any characters.

Sources: https://google.aip.dev/160, https://cloud.google.com/vertex-ai/docs/ml-metadata/analyzing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import lark
import proto
import sqlalchemy as sa
from google.api_core import exceptions

from localvertex.filters.comparisons import compare
from localvertex.filters.conditions import Combination, Condition, Leaf, Postings, decide
from localvertex.filters.fields import Unsupported, field_at
from localvertex.store import kind_of, resources

MAX_DEPTH = 5
"""How deep parentheses may nest, as the metadata lists document it."""

Related = Callable[[str], sa.Select[int]]

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

_Tree = lark.Tree[lark.Token]


@dataclass(frozen=True)
class Relations:
    """What filters may ask beyond a resource's own fields; each gives a query of the ids it holds for.

    Args:
        functions: `in_context("name")`.
        collections: `parent_contexts:"name"`.
    """

    functions: Mapping[str, Related] = field(default_factory=dict)
    collections: Mapping[str, Related] = field(default_factory=dict)


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


def predicate(kind: type[proto.Message], filter: str) -> Callable[[Any], bool]:
    """What a filter asks, as a test of messages that no store holds.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong with the filter, and at which position.
    """
    condition = parse_filter(kind, filter)
    return lambda message: decide(condition, kind.pb(message), {})


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

    def _condition(self, tree: _Tree) -> Condition:
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

    def _group(self, tree: _Tree) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(tree, f"parentheses nest deeper than {MAX_DEPTH} levels")
        condition = self.join("and", tree.children)
        self._depth -= 1
        return condition

    def _call(self, tree: _Tree) -> Condition:
        name, argument = (str(child) for child in tree.children)
        known = self._relations.functions
        if name not in known:
            raise self._error(tree, f"{kind_of(self._kind)} filters have no function {name}{_of(known)}")
        return _related(known[name], _unquote(argument))

    def _comparison(self, tree: _Tree) -> Condition:
        path, comparator, *values = tree.children
        assert isinstance(path, lark.Tree)
        if len(values) > 1 and comparator != ":":
            raise self._error(tree, f"'{comparator}' takes one value; quote a value that holds commas")
        return self._all([self._leaf(path, str(comparator), value) for value in values])

    def _all(self, conditions: Sequence[Condition]) -> Condition:
        return conditions[0] if len(conditions) == 1 else Combination("and", tuple(conditions))

    def _leaf(self, path: _Tree, comparator: str, value: Any) -> Condition:
        segments = [_unquote(str(segment)) for segment in path.children]
        text = _unquote(str(value.children[0]))
        if len(segments) == 1 and segments[0] in self._relations.collections:
            if comparator != ":":
                raise self._error(path, f"{segments[0]} supports only ':', not '{comparator}'")
            return _related(self._relations.collections[segments[0]], text)
        try:
            found = field_at(self._kind, segments)
        except Unsupported as problem:
            raise self._error(path, str(problem)) from None
        try:
            return compare(found, comparator, text)
        except Unsupported as problem:
            raise self._error(value, f"{'.'.join(segments)} {problem}") from None

    def _error(self, tree: _Tree, problem: str) -> exceptions.InvalidArgument:
        return _invalid(self._filter, tree.meta.start_pos, problem)


def _related(relation: Related, name: str) -> Leaf:
    ids = relation(name)
    column = ids.selected_columns[0]
    whereclause = ids.whereclause
    assert whereclause is not None
    return Leaf(where=ids.where(column == resources.c.id).exists(), postings=Postings(column, [whereclause]))


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


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[:1] in ("'", '"') else text
