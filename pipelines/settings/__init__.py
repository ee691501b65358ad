"""Typed settings: `build.yaml` shapes the compiled pipelines; a file per environment says how to run them."""

from pipelines.settings.schema import Build, Environment, Prices, build, environment, parameters, prices

__all__ = ["Build", "Environment", "Prices", "build", "environment", "parameters", "prices"]
