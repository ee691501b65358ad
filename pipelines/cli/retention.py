"""What of a pipeline's past can go: from what there is and what the settings keep; no call is made here.

A run is kept whole or goes whole. It is kept when the settings say so, and when something that is kept leans on it: an
artifact that it made is in another kept run, is what a kept version or an endpoint was made from, or is used by others.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TypeVar

from pipelines.settings import Retention


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of the pipeline that has ended.

    Attributes:
        context: resource name of its context in the metadata store; what of the run goes last.
        job: resource name of its PipelineJob.
        folder: gs:// URI of what its tasks wrote.
        created: when.
        succeeded: whether it ended well.
        artifacts: names of those that its tasks read or wrote, or were spared from writing.
        made: names of those that its tasks really wrote.
        executions: names of what is recorded of its tasks.
        uris: gs:// URIs that its parameters name.
        begun: whether an earlier clean-up began to remove it and was cut off.
    """

    context: str
    job: str
    folder: str
    created: datetime.datetime
    succeeded: bool = True
    artifacts: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    executions: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    begun: bool = False


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of the pipeline's model.

    Attributes:
        name: `<model>@<version>`.
        created: when.
        uri: gs:// folder of the SavedModel.
        aliases: such as `default` or `champion`.
        deployed: whether an endpoint has it.
    """

    name: str
    created: datetime.datetime
    uri: str = ""
    aliases: tuple[str, ...] = ()
    deployed: bool = False


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Any artifact of the metadata store, of whomever.

    Attributes:
        name: resource name.
        created: when.
        uri: where it is.
        resource: name of the model version or endpoint that it stands for; else empty.
    """

    name: str
    created: datetime.datetime
    uri: str = ""
    resource: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A content-addressed copy of source data.

    Attributes:
        uri: gs:// URI of its folder.
        created: when something was last written to it.
    """

    uri: str
    created: datetime.datetime


Aged = TypeVar("Aged", Run, Version, Artifact, Snapshot)


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What there is.

    Attributes:
        runs: the pipeline's, by context.
        versions: of the pipeline's model.
        snapshots: of the pipeline's data.
        artifacts: all, by name.
        endpoints: names of all that exist.
        foreign: names of artifacts that something else than the pipeline's runs has to do with.
        uris: gs:// URIs that others name: their models, their runs, all schedules.
    """

    runs: Mapping[str, Run] = dataclasses.field(default_factory=dict)
    versions: tuple[Version, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    artifacts: Mapping[str, Artifact] = dataclasses.field(default_factory=dict)
    endpoints: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to go, in the order in which it goes: nothing goes before what leans on it."""

    versions: tuple[Version, ...] = ()
    runs: tuple[Run, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.versions or self.runs or self.artifacts or self.snapshots)

    def within(self, other: Plan) -> Plan:
        """What of this plan is in another one too, which was made when some of it may have gone already."""
        versions, runs = {each.name for each in other.versions}, {each.context for each in other.runs}
        artifacts, snapshots = {each.name for each in other.artifacts}, {each.uri for each in other.snapshots}
        return Plan(
            versions=tuple(each for each in self.versions if each.name in versions),
            runs=tuple(each for each in self.runs if each.context in runs),
            artifacts=tuple(each for each in self.artifacts if each.name in artifacts),
            snapshots=tuple(each for each in self.snapshots if each.uri in snapshots),
        )


def plan(there: Inventory, retention: Retention, now: datetime.datetime) -> Plan:
    """What can go.

    Args:
        there: what there is.
        retention: what the settings keep.
        now: the time.
    """
    old = now - datetime.timedelta(days=retention.keep_days)
    versions = _kept_versions(there, retention, old)
    uris = there.uris | {version.uri for version in versions}
    named = {folder for uri in uris for folder in _folders(uri)}
    roots = there.foreign | _standing_for(there, versions)
    roots |= {artifact.name for artifact in there.artifacts.values() if artifact.uri.rstrip("/") in named}
    runs = _leaned_on(there, _kept_runs(there, retention, old), roots, uris)
    going = [run for context, run in there.runs.items() if context not in runs]
    staying = roots.union(*(there.runs[context].artifacts for context in runs))
    artifacts = frozenset().union(*(run.artifacts for run in going)) - staying
    uris |= {uri for context in runs for uri in there.runs[context].uris}
    uris |= {artifact.uri for name, artifact in there.artifacts.items() if name not in artifacts}
    return Plan(
        versions=_by_age(version for version in there.versions if version not in versions),
        runs=_by_age(going),
        artifacts=_by_age(there.artifacts[name] for name in artifacts if name in there.artifacts),
        snapshots=_by_age(
            snapshot
            for snapshot in there.snapshots
            if snapshot.created < old and not any(is_within(uri, snapshot.uri) for uri in uris)
        ),
    )


def is_within(uri: str, folder: str) -> bool:
    """Whether a URI is that of a folder, or of something in it."""
    folder = folder.rstrip("/")
    return uri.rstrip("/") == folder or uri.startswith(f"{folder}/")


def key(resource: str) -> str:
    """A resource name without its project, which is an id in one place and a number in another."""
    return resource.partition("/locations/")[2]


def _folders(uri: str) -> Iterator[str]:
    """A gs:// URI and all folders that it is in, but for the bucket."""
    parts = uri.rstrip("/").split("/")
    yield from ("/".join(parts[:end]) for end in range(4, len(parts) + 1))


def _kept_versions(there: Inventory, retention: Retention, old: datetime.datetime) -> set[Version]:
    newest = _by_age(there.versions)[-retention.keep_versions :]
    return {
        version
        for version in there.versions
        if version in newest or version.aliases or version.deployed or version.created >= old
    }


def _kept_runs(there: Inventory, retention: Retention, old: datetime.datetime) -> set[str]:
    whole = [run for run in there.runs.values() if not run.begun]
    succeeded = _by_age(run for run in whole if run.succeeded)
    newest = succeeded[len(succeeded) - retention.keep_runs :] if retention.keep_runs < len(succeeded) else succeeded
    return {run.context for run in whole if run in newest or run.created >= old}


def _standing_for(there: Inventory, versions: Iterable[Version]) -> set[str]:
    """Artifacts that stand for these versions, and the newest that stands for each endpoint."""
    standing: dict[str, list[Artifact]] = {}
    for artifact in there.artifacts.values():
        if artifact.resource:
            standing.setdefault(key(artifact.resource), []).append(artifact)
    found = {artifact.name for version in versions for artifact in standing.get(key(version.name), [])}
    for endpoint in there.endpoints:
        found |= {artifact.name for artifact in _by_age(standing.get(key(endpoint), []))[-1:]}
    return found


def _leaned_on(there: Inventory, runs: Set[str], roots: Set[str], uris: Set[str]) -> set[str]:
    """These runs, and all that made what they or the roots have to do with, and so on back to the source."""
    makers: dict[str, set[str]] = {}
    for run in there.runs.values():
        for name in run.made:
            makers.setdefault(name, set()).add(run.context)
    homes = {run.folder.rstrip("/"): run.context for run in there.runs.values()}

    def home(uri: str) -> set[str]:
        return {homes[folder] for folder in _folders(uri) if folder in homes}

    kept: set[str] = set()
    waiting = set(runs).union(*(home(uri) for uri in uris))
    names = set(roots)
    while waiting or names:
        kept |= waiting
        names |= set().union(*(there.runs[context].artifacts for context in waiting))
        waiting = set()
        for name in names:
            waiting |= makers.get(name, set())
            waiting |= home(there.artifacts[name].uri) if name in there.artifacts else set()
        waiting -= kept
        names = set()
    return kept


def _by_age(found: Iterable[Aged]) -> tuple[Aged, ...]:
    return tuple(sorted(found, key=lambda each: (each.created, str(each))))
