"""Notify: the last step of every pipeline says what went wrong: a failed task, or data that drifted.

It writes a record: the task, its message, the last lines of its log, the command to look further. Where a webhook is
set, the record is posted there. The secret for it is in the environment (`WEBHOOK_SECRET`), or in Secret Manager under
the name that the pipeline is given; it goes into the header `Authorization: Bearer …`, and is never printed.

Source: cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.launcher.rest import ServiceError, Vertex

LINES = 15
ATTEMPTS, PAUSE, TIMEOUT = 4, 1.0, 10.0
"""Posts before giving up, seconds before the second (each next twice as long), and seconds that one may take."""

LOGGING = "https://logging.googleapis.com/v2/entries:list"
SECRETS = "https://secretmanager.googleapis.com/v1"
SECRET = "WEBHOOK_SECRET"

OK, FAILURE, DRIFT = "ok", "failure", "drift"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run came to.

    Attributes:
        kind: `ok`, `failure` or `drift`.
        pipeline: its name.
        run: its resource name.
        task: the task that failed, or that found the drift; empty if none did.
        message: why, in a line.
        log: the last lines that the task printed.
        command: what to type to see more.
        console: the page that shows the run on Google Cloud.
    """

    kind: str
    pipeline: str
    run: str
    task: str = ""
    message: str = ""
    log: Sequence[str] = ()
    command: str = ""
    console: str = ""


def record(vertex: Vertex, status: Mapping[str, Any]) -> Record:
    """What is to be said about a run.

    Args:
        vertex: the service.
        status: KFP's PipelineTaskFinalStatus of all tasks but the last.
    """
    run = str(status["pipelineJobResourceName"])
    job = vertex.get(run)
    details = {str(detail["taskId"]): detail for detail in job.get("jobDetail", {}).get("taskDetails", [])}
    pipeline = str(job.get("pipelineSpec", {}).get("pipelineInfo", {}).get("name", ""))
    _, project, _, location, _, run_id = run.split("/")
    failed = _failed(details)
    drifted = next(_drifted(details.values()), None)
    detail = failed or drifted
    if detail is None and status["state"] == "SUCCEEDED":
        return Record(OK, pipeline, run)
    task = _path(detail, details) if detail else ""
    error = detail.get("error", {}) if detail else status.get("error", {})
    message = " ".join(str(error.get("message", "")).split())
    if detail is not None and detail is drifted:
        message = "the data has drifted from what the network was trained on"
    page = f"https://console.cloud.google.com/vertex-ai/locations/{location}/pipelines/runs/{run_id}?project={project}"
    return Record(
        kind=DRIFT if detail is not None and detail is drifted else FAILURE,
        pipeline=pipeline,
        run=run,
        task=task,
        message=message or f"the run ended as {status['state']}",
        log=_last_lines(vertex, f"projects/{project}", detail) if detail else (),
        command=f"make logs JOB={run_id}" + (f" TASK={task}" if task else ""),
        console=page,
    )


def post(url: str, content: Mapping[str, Any], secret: str) -> None:
    """Posts JSON, again and again where the receiver is busy or does not answer.

    Args:
        url: of the webhook.
        content: what to send.
        secret: for the header; empty: none is sent.

    Raises:
        UserError: it was not taken. The message has neither the URL's query nor the secret.
    """
    import requests

    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    place = url.partition("?")[0]
    fault = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            answer = requests.post(url, json=content, headers=headers, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            fault = type(error).__name__
            continue
        if answer.ok:
            return
        fault = f"{answer.status_code} {answer.reason}"
        if answer.status_code < 500 and answer.status_code != 429:
            break
    raise UserError(f"webhook {place}: {fault}; the record is in the run's artifacts")


def _failed(details: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first task that failed on its own account, not for one inside it."""
    failed = [detail for detail in details.values() if detail.get("state") == "FAILED"]
    blamed = {str(detail.get("parentTaskId")) for detail in failed}
    own = [detail for detail in failed if str(detail["taskId"]) not in blamed]
    return min(own, key=lambda detail: str(detail.get("endTime", "")), default=None)


def _drifted(details: Any) -> Iterator[Mapping[str, Any]]:
    """Tasks whose metrics say that something did not pass."""
    for detail in details:
        for output in detail.get("outputs", {}).values():
            for artifact in output.get("artifacts", []):
                metrics = artifact.get("schemaTitle") == "system.Metrics"
                if metrics and artifact.get("metadata", {}).get("passed") is False:
                    yield detail


def _path(detail: Mapping[str, Any], details: Mapping[str, Mapping[str, Any]]) -> str:
    """A task's place in the run, such as `exit-handler-1.train`."""
    names: list[str] = []
    while "parentTaskId" in detail:
        names.insert(0, str(detail["taskName"]))
        detail = details[str(detail["parentTaskId"])]
    return ".".join(names)


def _last_lines(vertex: Vertex, project: str, detail: Mapping[str, Any]) -> list[str]:
    """The last lines that a task printed; what Cloud Logging cannot tell is no reason to keep silent."""
    container = detail.get("executorDetail", {}).get("containerDetail", {})
    job = str(container.get("mainJob", "")).rpartition("/")[2]
    if not job:
        return []
    wanted = f'resource.type="ml_job" AND resource.labels.job_id="{job}"'
    body = {"resourceNames": [project], "filter": wanted, "orderBy": "timestamp desc", "pageSize": LINES}
    try:
        entries = vertex.call("POST", LOGGING, body).get("entries", [])
    except ServiceError as error:
        return [f"(no log: {error})"]
    texts = [entry.get("textPayload") or entry.get("jsonPayload", {}).get("message", "") for entry in entries]
    return [str(text).rstrip() for text in reversed(texts)]


def _secret(vertex: Vertex, name: str) -> str:
    if not name:
        return os.environ.get(SECRET, "")
    payload = vertex.call("GET", f"{SECRETS}/{name}:access")["payload"]["data"]
    return base64.b64decode(payload).decode().strip()


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.launcher.notify", description=__doc__, allow_abbrev=False)
    parser.add_argument("--project", required=True)
    parser.add_argument("--location", required=True)
    parser.add_argument("--status", required=True, help="KFP's PipelineTaskFinalStatus as JSON")
    parser.add_argument("--webhook", default="", help="URL to post the record to; empty: nowhere")
    parser.add_argument("--webhook_secret", default="", help=f"version of a secret; empty: the variable {SECRET}")
    parser.add_argument("--record", required=True, help="the JSON file to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    flags = parser.parse_args(argv)
    logged = ExecutorOutput(flags.executor_input)
    vertex = Vertex(flags.project, flags.location)
    found = record(vertex, json.loads(flags.status))
    content = dataclasses.asdict(found)
    with executor.whole(Path(flags.record)) as aside:
        aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    logged.log("record", kind=found.kind, task=found.task, message=found.message)
    logged.write()
    if found.kind == OK:
        return
    print(f"{found.kind}: {found.task}: {found.message}")
    for line in found.log:
        print(f"  {line}")
    print(found.command)
    if flags.webhook:
        post(flags.webhook, content, _secret(vertex, flags.webhook_secret))


if __name__ == "__main__":
    executor.run(main)
