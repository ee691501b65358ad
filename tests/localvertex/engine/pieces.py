"""Small components that the engine's tests are made of; shell where that will do, since Python starts slowly."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output, OutputPath


@dsl.container_component
def say(text: str, said: OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(
        image="alpine:3", command=["sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$0" > "$1"'], args=[text, said]
    )


@dsl.container_component
def number(value: int, result: OutputPath(int)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[value, result])


@dsl.container_component
def fail(message: str):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'echo "$0" >&2; exit 7'], args=[message])


@dsl.container_component
def write(text: str, file: Output[Dataset]):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[text, file.path])


@dsl.container_component
def write_folder(text: str, folder: Output[Dataset]):
    script = 'mkdir -p "$1/inner"; printf %s "$0" > "$1/inner/a"; printf b > "$1/b"'
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[text, folder.path])


@dsl.container_component
def copy(source: Input[Artifact], target: Output[Dataset]):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'cp -r "$0" "$1"'], args=[source.path, target.path])


@dsl.container_component
def show(source: Input[Artifact], text: OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'cat "$0" > "$1"'], args=[source.path, text])


@dsl.container_component
def wait(seconds: float):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'echo waiting; sleep "$0"'], args=[seconds])


@dsl.container_component
def join(texts: list, joined: OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[texts, joined])


@dsl.container_component
def real(value: float, result: OutputPath(float)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[value, result])


@dsl.container_component
def flag(value: bool, result: OutputPath(bool)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[value, result])


@dsl.container_component
def listing(value: list, result: OutputPath(list)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[value, result])


@dsl.container_component
def table(value: dict, result: OutputPath(dict)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[value, result])


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def read_all(files: Input[list[Dataset]]) -> str:
    return ",".join(open(file.path).read() for file in files)
