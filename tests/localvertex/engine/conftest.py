"""An engine over a fresh state folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.localvertex.engine.support import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()
