"""Placeholders: the `{{$…}}` in commands, arguments and values, replaced by what they stand for in one task.

Source: the comments on ExecutorInput in
https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localvertex.engine.spec import Interface
from localvertex.engine.values import Inputs, text_of

_PLACEHOLDER = re.compile(r"\{\{\$(?P<path>(?:\[['\"][^\]]*['\"]\]|[^{}])*?)\}\}")
_ESCAPE = re.compile(r"\.json_escape\[(\d)\]$")
_INPUT = re.compile(r"^\.inputs\.parameters\[(['\"])(?P<name>.+?)\1\]$")
_ARTIFACT = re.compile(
    r"^\.(?P<side>inputs|outputs)\.artifacts\[(['\"])(?P<name>.+?)\2\]"
    r"(?:\.(?P<field>uri|path|name|value|metadata|properties)(?:\[(['\"])(?P<key>.+?)\5\])?)?$"
)
_OUTPUT = re.compile(r"^\.outputs\.parameters\[(['\"])(?P<name>.+?)\1\]\.output_file$")
_DEEPEST = 20
_FACTS = frozenset(
    {
        ".pipeline_job_name",
        ".pipeline_job_resource_name",
        ".pipeline_job_uuid",
        ".pipeline_job_create_time_utc",
        ".pipeline_job_schedule_time_utc",
        ".pipeline_root",
        ".pipeline_task_name",
        ".pipeline_task_uuid",
        ".workspace_path",
        ".pipeline_google_cloud_project_id",
        ".pipeline_google_cloud_location",
        ".pipeline_service_account",
        ".pipeline_network",
        ".pipeline_persistent_resource_id",
        ".pipeline_encryption_key_name",
        ".outputs.output_file",
        ".outputMetadataUri",
    }
)


class PlaceholderProblem(Exception):
    """A placeholder that stands for nothing; the message names it."""


@dataclass(frozen=True)
class Context:
    """What placeholders of one task can refer to.

    Args:
        inputs: the task's inputs; templates among its parameters are searched for placeholders in turn.
        executor_input: ExecutorInput JSON; None while only inputs and facts are known.
        facts: values of the plain placeholders by path, such as `.pipeline_job_name`.
        path_of: path of an artifact, given as in the executor's input, as the task sees it.
    """

    inputs: Inputs
    facts: Mapping[str, str]
    executor_input: Mapping[str, Any] | None = None
    path_of: Callable[[Mapping[str, Any]], str] = lambda artifact: str(artifact["uri"])


def arguments(words: tuple[str, ...], context: Context) -> list[str]:
    """A command or its arguments with every placeholder replaced; IfPresent may add or drop words.

    Raises:
        PlaceholderProblem: a placeholder stands for nothing.
    """
    found: list[str] = []
    for word in words:
        if word.startswith(('{"Concat":', '{"IfPresent":')):
            found += _structure(json.loads(word), context)
        else:
            found.append(resolve(word, context))
    return found


def resolve(text: str, context: Context, depth: int = 0) -> str:
    """A text with every placeholder replaced.

    Raises:
        PlaceholderProblem: a placeholder stands for nothing, or placeholders stand for each other in a circle.
    """
    if depth > _DEEPEST:
        raise PlaceholderProblem(f"placeholders refer to each other in a circle: {text[:80]}")
    return _PLACEHOLDER.sub(lambda match: _expand(match["path"], context, depth), text)


def resolve_inputs(inputs: Inputs, facts: Mapping[str, str]) -> Inputs:
    """The inputs with placeholders in templates replaced as far as other inputs and the facts given tell.

    What refers to the executor's input or outputs, or is to be escaped for the text around it, stays for `resolve`.
    """
    context = Context(inputs, facts)
    parameters, templates = dict(inputs.parameters), set()
    for name in inputs.templates:
        parameters[name] = _resolve_early(parameters[name], context, 0)
        if "{{$" in text_of(parameters[name]):
            templates.add(name)
    return Inputs(parameters, inputs.artifacts, frozenset(templates))


def resolve_leaves(value: Any, context: Context) -> Any:
    """A JSON value with placeholders in all its strings replaced."""
    if isinstance(value, str):
        return resolve(value, context)
    if isinstance(value, list):
        return [resolve_leaves(item, context) for item in value]
    if isinstance(value, dict):
        return {key: resolve_leaves(item, context) for key, item in value.items()}
    return value


def mentions(fact: str, texts: Iterable[str]) -> bool:
    """Whether one of the texts refers to a plain placeholder, such as `.workspace_path`."""
    return any(match["path"] == fact for text in texts for match in _PLACEHOLDER.finditer(text))


def unknown(text: str, outputs: Interface) -> list[str]:
    """The placeholders in a text that can stand for nothing, given a component's outputs."""
    return [match[0] for match in _PLACEHOLDER.finditer(text) if not _known(_ESCAPE.sub("", match["path"]), outputs)]


def _resolve_early(value: Any, context: Context, depth: int) -> Any:
    if isinstance(value, list):
        return [_resolve_early(item, context, depth) for item in value]
    if isinstance(value, dict):
        return {key: _resolve_early(item, context, depth) for key, item in value.items()}
    if not isinstance(value, str) or depth > _DEEPEST:
        return value

    def expand(match: re.Match[str]) -> str:
        path = match["path"]
        named = _INPUT.match(path)
        if named and named["name"] in context.inputs.parameters:
            inner = context.inputs.parameters[named["name"]]
            early = _resolve_early(inner, context, depth + 1) if named["name"] in context.inputs.templates else inner
            return text_of(early)
        return context.facts.get(path, match[0])

    return _PLACEHOLDER.sub(expand, value)


def _structure(entry: Any, context: Context) -> list[str]:
    if isinstance(entry, str):
        return [resolve(entry, context)]
    if isinstance(entry, list):
        return [word for part in entry for word in _structure(part, context)]
    if "Concat" in entry:
        return ["".join(_structure(entry["Concat"], context))]
    choice = entry["IfPresent"]
    name = choice["InputName"]
    present = context.inputs.parameters.get(name) is not None or bool(context.inputs.artifacts.get(name))
    chosen = choice["Then"] if present else choice.get("Else")
    return [] if chosen is None else _structure(chosen, context)


def _expand(path: str, context: Context, depth: int) -> str:
    escape = _ESCAPE.search(path)
    if escape:
        text = _expand(path[: escape.start()], context, depth)
        for _ in range(int(escape[1])):
            text = json.dumps(text)[1:-1]
        return text
    if path in context.facts:
        return context.facts[path]
    named = _INPUT.match(path)
    if named:
        name = named["name"]
        # An optional input without a value is null, as in the executor's input.
        text = text_of(context.inputs.parameters.get(name))
        return resolve(text, context, depth + 1) if name in context.inputs.templates else text
    found = _from_executor_input(path, context)
    if found is None:
        raise PlaceholderProblem(f"the placeholder {{{{${path}}}}} is not supported or refers to nothing")
    return found


def _from_executor_input(path: str, context: Context) -> str | None:
    whole = context.executor_input
    if whole is None:
        return None
    if path == "":
        return json.dumps(whole)
    if path in (".outputs.output_file", ".outputMetadataUri"):
        return str(whole["outputs"]["outputFile"])
    output = _OUTPUT.match(path)
    if output:
        entry = whole["outputs"].get("parameters", {}).get(output["name"])
        return None if entry is None else str(entry["outputFile"])
    artifact = _ARTIFACT.match(path)
    return _of_artifact(artifact, whole, context) if artifact else None


def _of_artifact(match: re.Match[str], whole: Mapping[str, Any], context: Context) -> str | None:
    entry = whole[match["side"]].get("artifacts", {}).get(match["name"])
    if entry is None:
        return None if match["side"] == "outputs" else "null"
    if match["field"] is None:
        return json.dumps(entry)
    artifact = entry["artifacts"][0]
    if match["field"] == "path":
        return context.path_of(artifact)
    if match["field"] in ("metadata", "properties", "value"):
        metadata = artifact.get("metadata", {})
        return text_of(metadata.get(match["key"]) if match["key"] else metadata)
    return str(artifact[match["field"]])


def _known(path: str, outputs: Interface) -> bool:
    if path == "" or path in _FACTS or _INPUT.match(path):
        return True
    output, artifact = _OUTPUT.match(path), _ARTIFACT.match(path)
    if output:
        return output["name"] in outputs.parameters
    return artifact is not None and (artifact["side"] == "inputs" or artifact["name"] in outputs.artifacts)
