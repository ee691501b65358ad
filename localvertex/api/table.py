"""The table of what is served, written into README.md: `python -m localvertex.api.table`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from localvertex.api import lazy_sdk

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- calls: begin, written by `python -m localvertex.api.table` -->", "<!-- calls: end -->"


def table() -> str:
    """The services and calls of a server, as a Markdown table."""
    from localvertex.api.methods import MethodTable
    from localvertex.api.storage_frontend import StorageFrontend
    from localvertex.home import Home
    from localvertex.server import Services
    from localvertex.workloads.process import ProcessRunner
    from localvertex.workloads.table import ImageTable

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).create()
        services = Services(home, ProcessRunner(home, ImageTable((), home.path), {}))
        methods = MethodTable(services.api, services.projects.number_of).methods
        storage = StorageFrontend(services.buckets, services.projects).calls
        services.close()
    served: dict[str, list[str]] = {}
    known: dict[str, int] = {}
    for method in methods:
        service = method.signature.service.rpartition(".")[2]
        known[service] = known.get(service, 0) + 1
        if method.handler:
            served.setdefault(service, []).append(method.signature.name)
    return "\n".join(_rows(served, known, storage))


def _rows(served: dict[str, list[str]], known: dict[str, int], storage: list[str]) -> Iterator[str]:
    yield "| Service | Calls | Served, by gRPC and REST |"
    yield "| --- | --- | --- |"
    for service in sorted(served):
        yield f"| {service} | {len(served[service])} of {known[service]} | {', '.join(sorted(served[service]))} |"
    others = ["upload (media, multipart, resumable, in parts)", "download (whole, ranges)", "batch"]
    yield f"| Cloud Storage, JSON API | | {', '.join(dict.fromkeys([*storage, *others]))} |"


def with_table(readme: str) -> str:
    """A README with the table as it is now between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no line '{BEGIN}' before a line '{END}'")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Write the table into localvertex/README.md."""
    lazy_sdk.install()
    README.write_text(with_table(README.read_text()))
    print(f"wrote the table of calls into {README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
