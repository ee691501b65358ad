"""Sample: makes a folder of data in a system's own format, so that a first run needs no download.

    python -m images.trainer.sample --system=crnn --kind=words --count=10000 --seed=1 --out=FOLDER

The same settings give the same bytes, whatever the number of processes. A folder that was made with them
already is left as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from images.executor import UserError, run, whole
from images.trainer.workers import Workers

SETTINGS = "sample.json"


class Result(Protocol):
    """What a job leaves for the end; `done` says how much it drew."""

    @property
    def done(self) -> int:
        """How many of the sample's units the job drew."""


class Generator(Protocol):
    """A system's `sample` module.

    Attributes:
        KINDS: the kinds of sample, the default first.
        DEFAULT_COUNT: how many are made when nobody says.
        UNIT: what is counted, in the plural.
    """

    KINDS: tuple[str, ...]
    DEFAULT_COUNT: int
    UNIT: str

    def plan(self, kind: str, count: int, seed: int) -> Sequence[Any]:
        """Divides the work into jobs; how does not depend on who will do them."""

    def draw(self, folder: Path, job: Any) -> Result:
        """Does one job: writes its files into `folder`, and returns what `finish` needs."""

    def finish(self, folder: Path, results: Iterable[Result]) -> None:
        """Writes what can be written only when all jobs are done."""


def sample(
    system: str,
    out: str | os.PathLike[str],
    kind: str | None = None,
    count: int | None = None,
    seed: int = 1,
    processes: int | None = None,
) -> bool:
    """Makes sample data, unless it is there.

    Args:
        system: a folder of `images.trainer.systems`.
        out: the folder to make. An older sample there is replaced.
        kind: of the system's `KINDS`; None: the first.
        count: how many; None: the system's `DEFAULT_COUNT`.
        seed: another seed, other data.
        processes: how many work; None: one a core. The result is the same.

    Returns:
        Whether anything had to be made.

    Raises:
        UserError: a setting is wrong, or `out` holds something that is no sample.
    """
    generator = generator_of(system)
    kind = generator.KINDS[0] if kind is None else kind
    count = generator.DEFAULT_COUNT if count is None else count
    if kind not in generator.KINDS:
        raise UserError(f"--kind={kind}: no such kind; the kinds are {', '.join(generator.KINDS)}")
    if count < 1:
        raise UserError(f"--count={count}: must be at least 1")
    if seed < 0:
        raise UserError(f"--seed={seed}: must not be negative")
    code = hashlib.sha256(b"".join(path.read_bytes() for path in _sources(generator))).hexdigest()
    settings = {"system": system, "kind": kind, "count": count, "seed": seed, "generator": code}
    if _made_with(Path(out)) == settings:
        return False
    with whole(out) as aside:
        aside.mkdir()
        with Workers(aside, processes) as workers:
            drawn = workers.map(generator.draw, generator.plan(kind, count, seed))
            generator.finish(aside, list(_shown(drawn, count, generator.UNIT)))
        (aside / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    return True


def generator_of(system: str) -> Generator:
    """A system's generator; raises UserError when there is none."""
    systems = sorted(path.parent.name for path in Path(__file__).parent.glob("systems/*/sample.py"))
    if system not in systems:
        raise UserError(f"--system={system}: no samples of it; there are samples of {', '.join(systems)}")
    return cast(Generator, importlib.import_module(f"images.trainer.systems.{system}.sample"))


def _sources(generator: Any) -> Iterator[Path]:
    """The files that decide what a sample looks like: the generator's and its system's word lists."""
    path = Path(generator.__file__)
    return (file for file in (path, path.with_name("vocabulary.py")) if file.exists())


def _made_with(out: Path) -> dict[str, Any] | None:
    """The settings of the sample in a folder; None when it is empty or not there."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        settings: dict[str, Any] = json.loads((out / SETTINGS).read_text())
        return settings
    except (OSError, ValueError):
        raise UserError(f"--out={out}: holds something that is no sample; give another folder") from None


def _shown(results: Iterable[Result], total: int, unit: str) -> Iterator[Result]:
    """Passes results on, with a progress bar on a terminal and a few lines elsewhere."""
    with _progress(total, unit) as advance:
        for result in results:
            advance(result.done)
            yield result


@contextlib.contextmanager
def _progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    if sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(f"drawing {unit}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task("", total=total)
            yield lambda count: bar.advance(task, count)
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        quarters = done * 4 // total
        done += count
        if done * 4 // total > quarters:
            print(f"drew {done:,} of {total:,} {unit}", flush=True)

    yield advance


def main(arguments: Sequence[str]) -> None:
    """Makes sample data with flags; raises UserError for a mistake of the caller."""
    parser = argparse.ArgumentParser(
        prog="python -m images.trainer.sample", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--system", required=True, help="whose format to write, such as crnn")
    parser.add_argument("--kind", help="for crnn words (drawn, the default) or digits (real pen strokes)")
    parser.add_argument("--count", type=int, help="how many; the system's own default if left out")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other data")
    parser.add_argument("--out", required=True, help="folder to make")
    parser.add_argument("--processes", type=int, help="how many work at once; a process a core if left out")
    flags = parser.parse_args(arguments)
    made = sample(flags.system, flags.out, flags.kind, flags.count, flags.seed, flags.processes)
    print(f"{flags.out}: {'made' if made else 'already made with these settings, left as it is'}")
    print(f"next: make run PIPELINE={flags.system}")


if __name__ == "__main__":
    run(main)
