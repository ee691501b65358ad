"""What deployed models were asked, and how it went: requests, errors and latency, counted since the server began."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from google.api_core import exceptions

MINUTES = 60
"""How far back requests are known minute by minute."""

_RECENT = 1000


@dataclass(frozen=True)
class Figures:
    """What one deployed model was asked.

    Args:
        requests: all of them.
        errors: how many failed, by the error's status: `INVALID_ARGUMENT`.
        median: seconds that half of the latest requests took at most; None before the first one was answered.
        slowest: seconds that 95 % of them took at most.
        per_minute: requests and errors of each of the last `MINUTES` minutes, the running one last.
    """

    requests: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    median: float | None = None
    slowest: float | None = None
    per_minute: tuple[tuple[int, int], ...] = ((0, 0),) * MINUTES


class Traffic:
    """Counts requests; kept in memory, so that counting costs a prediction nothing.

    Attributes:
        since: when counting began, in seconds since 1970.
    """

    def __init__(self) -> None:
        self.since = time.time()
        self._counting = threading.Lock()
        self._meters: dict[tuple[str, str], _Meter] = {}

    @contextmanager
    def measured(self, endpoint: str, deployed_id: str) -> Iterator[None]:
        """Count what is done inside as one request, and as an error when it raises."""
        before, error = time.perf_counter(), ""
        try:
            yield
        except exceptions.GoogleAPICallError as failure:
            error = failure.grpc_status_code.name if failure.grpc_status_code else str(failure.code)
            raise
        except Exception:
            error = "INTERNAL"
            raise
        finally:
            seconds = time.perf_counter() - before
            with self._counting:
                self._meters.setdefault((endpoint, deployed_id), _Meter()).count(seconds, error)

    def of(self, endpoint: str, deployed_id: str) -> Figures:
        """What a deployed model of an endpoint was asked."""
        with self._counting:
            meter = self._meters.get((endpoint, deployed_id))
            return meter.figures() if meter else Figures()


class _Meter:
    def __init__(self) -> None:
        self._requests = 0
        self._errors: Counter[str] = Counter()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._minutes: deque[tuple[int, int, int]] = deque(maxlen=MINUTES)

    def count(self, seconds: float, error: str) -> None:
        self._requests += 1
        if error:
            self._errors[error] += 1
        else:
            self._recent.append(seconds)
        requests = failed = 0
        if self._minutes and self._minutes[-1][0] == _minute():
            _, requests, failed = self._minutes.pop()
        self._minutes.append((_minute(), requests + 1, failed + bool(error)))

    def figures(self) -> Figures:
        ordered, now = sorted(self._recent), _minute()
        by_minute = {minute: (requests, errors) for minute, requests, errors in self._minutes}
        return Figures(
            requests=self._requests,
            errors=dict(self._errors),
            median=_quantile(ordered, 0.5),
            slowest=_quantile(ordered, 0.95),
            per_minute=tuple(by_minute.get(now - ago, (0, 0)) for ago in reversed(range(MINUTES))),
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    """The least value that at least this share of the values does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _minute() -> int:
    return int(time.monotonic() // 60)
