"""Container images: builds and pushes those that are missing, each under the names of all the stages that it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from components import image as table
from pipelines import UserError, settings
from pipelines.cli import compile, engine, sbom
from pipelines.cli.registry import Registry
from pipelines.cli.targets import ServiceError
from pipelines.settings.schema import nearest

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

DEVICES = ("cpu", "gpu", "tpu")
BUILDERS = ("docker", "cloud")
WITH_DEVICES = "trainer"
ON_ACCELERATORS = ("trial", "train", "follow")
"""Stages whose image `image_suffix` goes with, a parameter of the pipelines."""
REVISION = "org.opencontainers.image.revision"
CLOUDBUILD = compile.BUILD / "cloudbuild.yaml"
CLOUD_BUILDER = "gcr.io/cloud-builders/docker"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One image and what it is called.

    Attributes:
        image: a folder of `images/`.
        names: full name -> the stage and system that it stands for, such as `crnn-train`.
        device: what it is for, one of `DEVICES`; names end in `-gpu` or `-tpu` where it is not for CPUs.
    """

    image: str
    names: Mapping[str, str]
    device: str = DEVICES[0]

    @property
    def content(self) -> str:
        """A hash that is the same for the same stages with the same content."""
        return hashlib.sha256("\n".join(sorted(self.names)).encode()).hexdigest()

    @property
    def title(self) -> str:
        """For people to read."""
        return self.image if self.device == DEVICES[0] else f"{self.image} for {self.device.upper()}s"

    @property
    def arguments(self) -> dict[str, str]:
        """Of its build."""
        device = {"DEVICE": self.device} if self.image == WITH_DEVICES else {}
        return {"REVISION": revision(), "CONTENT": self.content, "LICENSES": licenses(self.image), **device}

    def without(self, names: Iterable[str]) -> Wanted:
        """The same with fewer names."""
        left = self.names.keys() - set(names)
        return dataclasses.replace(self, names={name: self.names[name] for name in sorted(left)})

    def on(self, device: str) -> Wanted:
        """The image for a kind of device, which is named so."""
        return Wanted(self.image, {f"{name}-{device}": stage for name, stage in self.names.items()}, device)


def wanted(only: str = "", device: str = DEVICES[0]) -> list[Wanted]:
    """All images with the names of all stages of all systems that have a pipeline.

    Args:
        only: one image; empty: all.
        device: another one than CPUs means the one image that there is for it.

    Raises:
        UserError: there is no such image.
    """
    registry = settings.build().registry
    found: dict[str, dict[str, str]] = {stage.image: {} for stage in table.STAGES.values()}
    if only and only not in found:
        raise UserError(f"IMAGE={only}: no such image{nearest(only, found)}")
    for system in compile.systems():
        names = table.Images(registry, system)
        for stage, entry in table.STAGES.items():
            try:
                found[entry.image][names[stage]] = f"{system}-{stage}"
            except FileNotFoundError:
                continue  # A stage of other systems: this one has no module for it.
    chosen = [Wanted(image, names) for image, names in found.items() if only in ("", image)]
    if device == DEVICES[0]:
        return chosen
    return [each.on(device) for each in chosen if each.image == WITH_DEVICES]


def of_pipeline(spec: Any, suffix: str = "") -> list[Wanted]:
    """The images that a compiled pipeline names, wherever it does.

    Args:
        spec: the compiled JSON.
        suffix: what the names of those end in that run on accelerators: empty, `-gpu` or `-tpu`.
    """
    text = json.dumps(spec)
    mine = [each.without(name for name in each.names if name not in text) for each in wanted()]
    if suffix:
        (trainer,) = (each for each in mine if each.image == WITH_DEVICES)
        others = (name for name, stage in trainer.names.items() if stage.partition("-")[2] not in ON_ACCELERATORS)
        mine.append(trainer.without(others).on(suffix.removeprefix("-")))
    return [each for each in mine if each.names]


def images(only: str, device: str, push: bool, dirty: bool) -> int:
    """Builds what the engine does not have, and tells what came of it.

    Args:
        only: one image; empty: all.
        device: what the trainer is for, one of `DEVICES`.
        push: whether to push what the registry does not have.
        dirty: whether to push even what no commit has.

    Returns:
        The exit code.

    Raises:
        UserError: there is no such image or engine, or something is not committed.
        ServiceError: a build or a push failed.
    """
    chosen = wanted(only, device)
    if push:
        check_committed(dirty)
    client = engine.connect()
    with engine.answering():
        for each in chosen:
            make(client, each)
        if push:
            push_missing(client, chosen)
    return 0


def make(client: DockerClient, each: Wanted) -> None:
    """Builds an image under those of its names that the engine does not have; prints its size and what is new.

    Raises:
        ServiceError: the build failed.
    """
    missing = {name: stage for name, stage in each.names.items() if not _has(client, name)}
    if missing:
        before = {stage: _latest(client, name, stage) for name, stage in missing.items()}
        file = compile.ROOT / "images" / each.image / "Dockerfile"
        engine.build(compile.ROOT, file, sorted(missing), each.arguments)
        _tell(client, each, missing, before)
    else:
        print(f"{each.title}: nothing to build, all {len(each.names)} tags are there", flush=True)
    bill = compile.BUILD / f"{each.title.replace(' ', '-')}.cdx.json"
    # Who built it may have been ended before this, or have sat in another checkout.
    if missing or sbom.subject(bill) not in each.names:
        sbom.write(client, next(iter(missing or each.names)), bill)
        print(f"{each.title}: bill of materials in {bill.relative_to(compile.ROOT)}", flush=True)


def push_missing(client: DockerClient, chosen: Iterable[Wanted]) -> None:
    """Pushes the names that the registry does not have.

    Raises:
        ServiceError: the registry cannot be asked, or refuses one.
    """
    for each in chosen:
        for name in sorted(missing_of(each)):
            print(f"pushing {name}", flush=True)
            engine.push(client, name)
            print(f"pushed {name}", flush=True)


def missing_of(each: Wanted) -> set[str]:
    """The names that the registry does not have.

    Raises:
        ServiceError: the registry cannot be asked.
    """
    registry = Registry(settings.build().registry)
    return {name for name in each.names if registry.digest(each.image, name.rsplit(":", 1)[1]) is None}


def provide(spec: Any, suffix: str, builder: str, dirty: bool) -> None:
    """Makes sure that the registry has every image that a compiled pipeline names.

    Args:
        spec: the compiled JSON.
        suffix: what the names of those end in that run on accelerators: empty, `-gpu` or `-tpu`.
        builder: one of `BUILDERS`: the engine here, or Cloud Build.
        dirty: whether to push even what no commit has.

    Raises:
        UserError: something to push is not committed, or what pushes is not there.
        ServiceError: a build or a push failed.
    """
    missing = [each.without(each.names.keys() - missing_of(each)) for each in of_pipeline(spec, suffix)]
    missing = [each for each in missing if each.names]
    if not missing:
        return
    for each in missing:
        print(f"{each.title}: the registry lacks {', '.join(sorted(each.names.values()))}", flush=True)
    check_committed(dirty)
    if builder != BUILDERS[0]:
        _submit(missing)
        return
    client = engine.connect()
    with engine.answering():
        for each in missing:
            make(client, each)
        push_missing(client, missing)


def cloudbuild(chosen: Iterable[Wanted]) -> dict[str, Any]:
    """What Cloud Build is to do: a step an image, which is pushed under all its names.

    Source: https://cloud.google.com/build/docs/build-config-file-schema
    """
    chosen = list(chosen)
    return {
        "steps": [
            {
                "name": CLOUD_BUILDER,
                "id": f"{each.image}-{each.device}",
                "waitFor": ["-"],
                "env": ["DOCKER_BUILDKIT=1"],
                "args": [
                    "build",
                    f"--file=images/{each.image}/Dockerfile",
                    *(f"--build-arg={name}={value}" for name, value in each.arguments.items()),
                    *(f"--tag={name}" for name in sorted(each.names)),
                    ".",
                ],
            }
            for each in chosen
        ],
        "images": sorted(name for each in chosen for name in each.names),
        "timeout": "3600s",
    }


def _submit(missing: list[Wanted]) -> None:
    CLOUDBUILD.parent.mkdir(exist_ok=True)
    CLOUDBUILD.write_text(yaml.safe_dump(cloudbuild(missing), sort_keys=False))
    command = ["gcloud", "builds", "submit", f"--config={CLOUDBUILD.relative_to(compile.ROOT)}", "."]
    if shutil.which("gcloud") is None:
        raise UserError(f"BUILDER=cloud needs gcloud, Google's command line: install it, or run {' '.join(command)}")
    if subprocess.run(command, cwd=compile.ROOT).returncode:
        raise ServiceError("Cloud Build did not build the images; its log is above")


def revision() -> str:
    """The commit that is built, marked if what is built differs from it; "unknown" outside a repository."""
    found = _git("rev-parse", "HEAD").strip()
    return f"{found}-dirty" if found and changed() else found or "unknown"


def changed() -> list[str]:
    """Paths in `images/` that no commit has as they are."""
    return [line[3:] for line in _git("status", "--porcelain", "--", "images").splitlines()]


def check_committed(dirty: bool) -> None:
    """Refuses to push what nobody could find again.

    Raises:
        UserError: names what is not committed.
    """
    if not dirty and (paths := changed()):
        raise UserError(
            f"not pushed: {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''} in images/ is not committed; "
            "commit it, or push all the same with DIRTY=1"
        )


def licenses(image: str) -> str:
    """The licences of the Python packages in an image, as one SPDX expression, as far as they state them so."""
    found = set()
    for line in (compile.ROOT / "images" / image / "requirements.txt").read_text().splitlines():
        if pinned := re.match(r"([A-Za-z0-9_.-]+)==", line):
            try:
                stated = str(importlib.metadata.metadata(pinned[1]).json.get("license_expression", ""))
            except importlib.metadata.PackageNotFoundError:
                continue
            found.update([f"({stated})" if " " in stated else stated] if stated else [])
    return " AND ".join(sorted(found))


def _git(*arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *arguments], cwd=compile.ROOT, capture_output=True, text=True).stdout


def _has(client: DockerClient, name: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _latest(client: DockerClient, name: str, stage: str) -> Image | None:
    """The newest image that a stage had so far."""
    repository = name.rsplit(":", 1)[0]
    earlier = [
        image
        for image in client.images.list(repository)
        if any(tag.startswith(f"{repository}:{stage}-") for tag in image.tags)
    ]
    return max(earlier, key=lambda image: str(image.attrs["Created"]), default=None)


def _tell(client: DockerClient, each: Wanted, made: Mapping[str, str], before: Mapping[str, Image | None]) -> None:
    built = client.images.get(next(iter(made)))
    print(f"{each.title}: {_megabytes(built.attrs['Size'])}, tagged for {', '.join(sorted(made.values()))}")
    earlier = next(filter(None, before.values()), None)
    if earlier is None:
        return
    kept = set(earlier.attrs["RootFS"]["Layers"]) & set(built.attrs["RootFS"]["Layers"])
    new = _layers(built)[len(kept) :]
    print(
        f"{each.title}: {len(kept)} layers of {_megabytes(sum(size for _, size in _layers(built)[: len(kept)]))} kept, "
        f"{len(new)} of {_megabytes(sum(size for _, size in new))} made anew"
    )
    commit = (earlier.labels.get(REVISION) or "").removesuffix("-dirty")
    if files := _git("diff", "--name-only", commit, "--", "images").split() if commit else []:
        for stage in sorted(stage for stage, previous in before.items() if previous is not None):
            system, _, name = stage.partition("-")
            mine = {os.path.relpath(path, compile.ROOT) for path in table.files(system, name)}
            print(f"  {stage}: {', '.join(sorted(mine.intersection(files))) or 'no file'} since {commit[:12]}")


def _layers(image: Image) -> list[tuple[str, int]]:
    """What made each layer, and its bytes, the first one first."""
    steps = [(str(step["CreatedBy"]), int(step["Size"])) for step in reversed(image.history())]
    # Instructions that only describe the image make no layer.
    makers = re.compile(r"\b(COPY|ADD|RUN|WORKDIR)\b|^Imported|ADD file|/bin/sh -c (?!#\(nop\))")
    return [step for step in steps if step[1] or makers.search(step[0])]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
