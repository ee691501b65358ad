"""Pipelines that the console's tests look at: shell, since Python starts slowly, and held back by files."""

from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output, OutputPath

from tests.localvertex.engine.support import compiled

IMAGE = "alpine:3"


@dsl.container_component
def write(text: str, file: Output[Dataset]):
    return dsl.ContainerSpec(
        image=IMAGE, command=["sh", "-c", 'echo "writing $0"; printf %s "$0" > "$1"'], args=[text, file.path]
    )


@dsl.container_component
def size(source: Input[Artifact], bytes: OutputPath(int)):  # type: ignore
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'wc -c < "$0" > "$1"'], args=[source.path, bytes])


@dsl.container_component
def hold(gate: str, number: int):
    """Ends once the file `gate` is there."""
    script = 'echo "number $1 begins"; while [ ! -e "$0" ]; do sleep 0.05; done; echo "number $1 ends"'
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", script], args=[gate, number])


@dsl.container_component
def fail(reason: str):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'echo "trying"; echo "$0" >&2; exit 7'], args=[reason])


@dsl.container_component
def stumble(counted: str, gate: str):
    """Fails twice, and the third time waits for the file `gate`."""
    script = (
        'echo x >> "$0"; n="$(wc -l < "$0")"; echo "attempt $n begins"; '
        '[ "$n" -gt 2 ] || { echo "no luck $n"; exit "$n"; }; '
        'while [ ! -e "$1" ]; do sleep 0.05; done; echo "attempt $n ends"'
    )
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", script], args=[counted, gate])


@dsl.container_component
def score(value: float, metrics: Output[Metrics], report: Output[HTML]):
    script = (
        "import json, sys; told, value, report = json.loads(sys.argv[1]), float(sys.argv[2]), sys.argv[3]; "
        "open(report, 'w').write(f'<h1>Score</h1><p>{value}</p>'); "
        "artifact = told['outputs']['artifacts']['metrics']['artifacts'][0]; "
        "artifact['metadata'] = {'accuracy': value, 'loss': 1 - value}; "
        "artifacts = {'metrics': {'artifacts': [artifact]}}; "
        "open(told['outputs']['outputFile'], 'w').write(json.dumps({'artifacts': artifacts}))"
    )
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-c", script], args=["{{$}}", value, report.path])


@dsl.pipeline(name="inner")
def inner(text: str):
    written = write(text=text).set_display_name("write inner")
    size(source=written.outputs["file"])


@dsl.pipeline(name="lively")
def lively(gate: str, rate: float = 0.5, branch: str = "left"):
    """All that a graph can hold: a group, a loop, branches, tasks that wait."""

    source = write(text="some text")
    group = inner(text="inner text").after(source)
    with dsl.ParallelFor([1, 2, 3], parallelism=2) as number:
        hold(gate=gate, number=number).after(group)
    with dsl.If(branch == "left"):
        size(source=source.outputs["file"]).set_display_name("left")
    with dsl.If(branch == "right"):
        size(source=source.outputs["file"]).set_display_name("right")
    score(value=rate)


@dsl.pipeline(name="failing")
def failing(reason: str):
    first = write(text="fine")
    broken = fail(reason=reason).after(first)
    size(source=first.outputs["file"]).after(broken)


@dsl.pipeline(name="stumbling")
def stumbling(counted: str, gate: str):
    stumble(counted=counted, gate=gate).set_retry(2, backoff_duration="0s")


def specs(folder: Path) -> dict[str, dict[str, Any]]:
    """The pipelines as JSON by name."""
    return {each.name: compiled(each, folder / f"{each.name}.json") for each in (lively, failing, stumbling)}
