"""Fixtures of the model, endpoint and prediction services."""

from tests.localvertex.restarts import fixtures
from tests.localvertex.serving.support import Service

restarts, service = fixtures(Service)
