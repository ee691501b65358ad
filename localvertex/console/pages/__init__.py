"""The pages, one module for what belongs together."""

from __future__ import annotations

from collections.abc import Sequence

from localvertex.console.pages.artifacts import ArtifactPages
from localvertex.console.pages.compare import ComparePage
from localvertex.console.pages.endpoints import EndpointPages
from localvertex.console.pages.home import HomePage
from localvertex.console.pages.jobs import JobPages
from localvertex.console.pages.lineage import LineagePage
from localvertex.console.pages.models import ModelPages
from localvertex.console.pages.runs import Runs
from localvertex.console.pages.schedules import SchedulePages
from localvertex.console.pages.style import StylePage
from localvertex.console.pages.tuning import TuningPages
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Section


def sections(services: ConsoleServices) -> Sequence[Section]:
    """All pages of the console."""
    return (
        HomePage(services),
        Runs(services),
        ComparePage(services),
        SchedulePages(services),
        LineagePage(services),
        ArtifactPages(services),
        TuningPages(services),
        JobPages(services),
        ModelPages(services),
        EndpointPages(services),
        StylePage(),
    )
