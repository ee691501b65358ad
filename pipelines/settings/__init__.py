"""Typed settings: `build.yaml` shapes the compiled pipelines; a file per environment says how to run them."""

from pipelines.settings.accelerators import chosen
from pipelines.settings.schedule import Schedule
from pipelines.settings.schema import (
    Build,
    Environment,
    Prices,
    Retention,
    accelerators,
    build,
    environment,
    parameters,
    prices,
)

__all__ = [
    "Build",
    "Environment",
    "Prices",
    "Retention",
    "Schedule",
    "accelerators",
    "build",
    "chosen",
    "environment",
    "parameters",
    "prices",
]
