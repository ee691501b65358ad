"""Fixtures of the job services."""

from tests.localvertex.jobs.support import Service
from tests.localvertex.restarts import fixtures

restarts, service = fixtures(Service)
