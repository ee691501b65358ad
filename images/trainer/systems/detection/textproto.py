"""Protocol buffers' text format, as far as label maps and the Object Detection API's `pipeline.config` use it.

Source: protobuf.dev/reference/protobuf/textformat-spec.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

Message = list[tuple[str, Any]]
"""Fields in their order: name and value, which is text, a number, true or false, a bare word, or a Message."""

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\s*)*(?P<token>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[{}<>:;,\[\]]|[^\s{}<>:;,\[\]"'\#]+|$)"""
)
_CLOSING = {"{": "}", "<": ">"}
_WORDS = {"true": True, "false": False}


def parse(text: str) -> Message:
    """Reads a message.

    Raises:
        ValueError: it is not in this format; says in which line.
    """
    tokens = _Tokens(text)
    message = list(_fields(tokens, ""))
    return message


def values(message: Message, name: str) -> list[Any]:
    """The values of a field, which may stand there several times."""
    return [value for field, value in message if field == name]


class _Tokens:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.next = ""
        self.advance()

    def advance(self) -> str:
        """Takes the token that is next."""
        taken = self.next
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise self.error("a string that does not end")
        self._at, self.next = match.end(), match["token"]
        return taken

    def error(self, what: str) -> ValueError:
        """What is wrong, and in which line."""
        return ValueError(f"line {self._text.count(chr(10), 0, self._at) + 1}: {what}")


def _fields(tokens: _Tokens, end: str) -> Iterator[tuple[str, Any]]:
    while tokens.next != end:
        name = tokens.advance()
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise tokens.error(f"{name or 'the end'} where a field's name should be")
        if tokens.next == ":":
            tokens.advance()
        if tokens.next == "[":
            tokens.advance()
            while tokens.next != "]":
                yield name, _value(tokens)
                if tokens.next == ",":
                    tokens.advance()
            tokens.advance()
        else:
            yield name, _value(tokens)
        if tokens.next in (",", ";"):
            tokens.advance()
    tokens.advance()


def _value(tokens: _Tokens) -> Any:
    token = tokens.advance()
    if token in _CLOSING:
        return list(_fields(tokens, _CLOSING[token]))
    if not token or token in "}>:;,[]":
        raise tokens.error(f"{token or 'the end'} where a value should be")
    if token[0] in "\"'":
        text = _unquoted(token)
        while tokens.next[:1] in ('"', "'"):
            text += _unquoted(tokens.advance())
        return text
    if token in _WORDS:
        return _WORDS[token]
    try:
        number = float(token.rstrip("fF"))
    except ValueError:
        return token
    return int(token) if re.fullmatch(r"[-+]?\d+", token) else number


def _unquoted(token: str) -> str:
    try:
        return str(ast.literal_eval(token))
    except (ValueError, SyntaxError):
        return token[1:-1]
