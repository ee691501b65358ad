"""A localvertex of its own for the commands that are tried on a real service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from unittest import mock

import pytest

from pipelines import settings
from pipelines.cli import targets
from pipelines.cli.vertex import Vertex

LOCAL = targets.TARGETS["local"]


@pytest.fixture(scope="package")
def vertex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vertex]:
    """A session with a fresh localvertex, to which this process and its children are redirected."""
    home = tmp_path_factory.mktemp("localvertex") / "state"
    with mock.patch.dict(os.environ, LOCALVERTEX_HOME=str(home)):
        targets.prepare(LOCAL, quiet=True)
        yield Vertex(settings.environment("local"))
        subprocess.run([*targets.LOCALVERTEX, "stop"], check=True, capture_output=True)
