"""Times and durations in API messages."""

from __future__ import annotations

import proto


def stamp(message: proto.Message, field: str) -> None:
    """Set a time field to now."""
    getattr(type(message).pb(message), field).GetCurrentTime()


def seconds(message: proto.Message, field: str) -> float:
    """A time (since the epoch) or duration field in seconds; 0 when it is not set."""
    return float(getattr(type(message).pb(message), field).ToNanoseconds() / 1e9)


def set_seconds(message: proto.Message, field: str, moment: float) -> None:
    """Set a time field to a number of seconds since the epoch."""
    getattr(type(message).pb(message), field).FromMicroseconds(round(moment * 1e6))
