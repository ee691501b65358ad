"""An engine for each test, and what runs pipelines on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.support import Conformance
from tests.localvertex.engine.support import Bench


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Conformance]:
    bench = Bench(tmp_path)
    yield Conformance(bench)
    bench.close()
