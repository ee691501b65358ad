"""What the tasks of one run have in common: its names, its folder, and what plain placeholders stand for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from google.cloud.aiplatform_v1.types import Context, PipelineJob

from localvertex import names
from localvertex.engine.journal import Record
from localvertex.home import Home

WORKSPACE = ".workspace_path"
"""Placeholder of the folder that all tasks of a run share."""

SCHEDULE_TIME = "schedule_time"
"""Key, in the metadata of a scheduled run's context, of the time (RFC 3339) that its schedule wanted it at."""


@dataclass(frozen=True)
class RunFacts:
    """One run.

    Args:
        job: as it was accepted.
        home: for the project's id.
        context: the run's context in the metadata store.
        pipeline: the pipeline's name.
    """

    job: PipelineJob
    home: Home
    context: Context
    pipeline: str

    @property
    def name(self) -> str:
        """Resource name of the run."""
        return str(self.job.name)

    @property
    def id(self) -> str:
        """Job id."""
        return names.id_of(self.name)

    @property
    def root(self) -> str:
        """`gs://` folder under which the run's outputs go."""
        return str(self.job.runtime_config.gcs_output_directory).rstrip("/")

    @property
    def folder(self) -> str:
        """`gs://` folder of this run."""
        return f"{self.root}/{names.project_of(self.name)}/{self.id}"

    @property
    def workspace(self) -> Path:
        """Folder that all tasks of the run share."""
        return self.home.gcs / self.folder.removeprefix("gs://") / "workspace"

    def task_folder(self, record: Record) -> str:
        """`gs://` folder of one attempt at a task: a retry must not find what an earlier attempt left behind."""
        attempt = f"_{record.attempt}" if record.attempt else ""
        return f"{self.folder}/{record.name}_{record.task_id}{attempt}"

    def placeholders(self, record: Record) -> dict[str, str]:
        """What plain placeholders stand for in a task, by path."""
        return {
            **self.facts,
            ".pipeline_task_name": record.name,
            ".pipeline_task_uuid": str(record.task_id),
        }

    @cached_property
    def facts(self) -> dict[str, str]:
        """What plain placeholders stand for in all of the run, by path."""
        job = self.job
        number = names.project_of(self.name)
        created = PipelineJob.pb(job).create_time.ToDatetime(tzinfo=UTC)
        return {
            ".pipeline_job_name": self.id,
            ".pipeline_job_resource_name": self.name,
            ".pipeline_job_uuid": numeric_id(self.name),
            ".pipeline_root": self.root,
            ".pipeline_job_create_time_utc": rfc3339(created),
            ".pipeline_job_schedule_time_utc": self._schedule_time or rfc3339(created),
            ".pipeline_google_cloud_project_id": (
                self.home.project_id if number == self.home.project_number else number
            ),
            ".pipeline_google_cloud_location": names.location_of(self.name),
            ".pipeline_service_account": str(job.service_account),
            ".pipeline_network": str(job.network),
            ".pipeline_persistent_resource_id": "",
            ".pipeline_encryption_key_name": str(job.encryption_spec.kms_key_name),
            WORKSPACE: str(self.workspace),
        }

    @property
    def _schedule_time(self) -> str:
        metadata = Context.pb(self.context).metadata
        return str(metadata[SCHEDULE_TIME]) if SCHEDULE_TIME in metadata else ""


def numeric_id(*parts: object) -> str:
    """A nineteen-digit id that is the same whenever it is made of the same parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return str(10**18 + int.from_bytes(digest[:8], "big") % (8 * 10**18))


def rfc3339(moment: datetime) -> str:
    """`2024-01-31T12:00:00Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
