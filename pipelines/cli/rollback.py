"""Puts the version that served before back in its place."""

from __future__ import annotations

import subprocess
import sys

from pipelines import UserError, settings
from pipelines.cli import compile, targets
from pipelines.cli.targets import Target
from pipelines.settings.schema import nearest


def rollback(pipeline: str, target: Target) -> int:
    """Goes back to the previous version of the pipeline's model, as its settings name it.

    Args:
        pipeline: a module of `pipelines/`.
        target: where it is deployed.

    Returns:
        The exit code: 2 if there is nothing to go back to.

    Raises:
        UserError: no such pipeline.
    """
    if pipeline not in compile.names():
        raise UserError(f"PIPELINE={pipeline}: no such pipeline{nearest(pipeline, compile.names())}")
    environment = settings.environment(target.settings)
    chosen = environment.pipelines.get(pipeline, {})
    targets.prepare(target, quiet=True)
    flags = {
        "project": environment.project,
        "location": environment.location,
        "model_name": chosen.get("model_name", pipeline),
        "endpoint_name": chosen.get("endpoint_name", pipeline),
        "machine_type": chosen.get("serving_machine_type", "n1-standard-2"),
    }
    command = [sys.executable, "-m", "images.launcher.rollback", *(f"--{name}={flags[name]}" for name in flags)]
    return subprocess.run(command, cwd=compile.ROOT).returncode
