"""Projects: their ids and numbers. Any id is a project; it gets a number when it is first heard of."""

from __future__ import annotations

import threading

import sqlalchemy as sa
from google.api_core import exceptions
from google.cloud.resourcemanager_v3.types import projects as types

from localvertex.home import Home
from localvertex.store import Store, tables

_projects = sa.Table(
    "projects",
    tables,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
)


class Projects:
    """google.cloud.resourcemanager.v3.Projects, and the directory of ids and numbers behind it.

    Args:
        store: where numbers are kept.
        home: names the first project.
    """

    SERVICE = "google.cloud.resourcemanager.v3.Projects"

    def __init__(self, store: Store, home: Home) -> None:
        self._store = store
        self._numbering = threading.Lock()
        with store.read() as connection:
            rows = connection.execute(sa.select(_projects.c.id, _projects.c.number)).all()
        self._numbers: dict[str, str] = {row.id: str(row.number) for row in rows}
        if home.project_id not in self._numbers:
            self._add(home.project_id, home.project_number)

    def number_of(self, project: str) -> str:
        """A project's number, by its id or number; a new id is given the next free one."""
        if project.isdigit():
            return project
        with self._numbering:
            if project not in self._numbers:
                self._add(project, str(max(map(int, self._numbers.values())) + 1))
            return self._numbers[project]

    def id_of(self, number: str) -> str:
        """The id of the project of that number.

        Raises:
            google.api_core.exceptions.NotFound: no project has it.
        """
        for project_id, candidate in self._numbers.items():
            if candidate == number:
                return project_id
        raise exceptions.NotFound(f"Project {number} is not found.")

    def get_project(self, request: types.GetProjectRequest) -> types.Project:
        """The project of a name with its id or number."""
        number = self.number_of(request.name.removeprefix("projects/"))
        project_id = self.id_of(number)
        return types.Project(
            name=f"projects/{number}",
            project_id=project_id,
            display_name=project_id,
            state=types.Project.State.ACTIVE,
        )

    def _add(self, project_id: str, number: str) -> None:
        if number in self._numbers.values():
            number = str(max(map(int, self._numbers.values())) + 1)
        with self._store.write() as connection:
            connection.execute(_projects.insert().values(id=project_id, number=int(number)))
        self._numbers[project_id] = number
