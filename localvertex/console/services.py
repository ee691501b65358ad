"""What the console's pages are about: the services that the SDK talks to, in this process."""

from __future__ import annotations

from dataclasses import dataclass

from localvertex.buckets import Buckets
from localvertex.engine import Engine
from localvertex.home import Home
from localvertex.services.batch_prediction import BatchPredictionService
from localvertex.services.endpoints import EndpointService
from localvertex.services.jobs import JobService
from localvertex.services.metadata import MetadataService
from localvertex.services.models import ModelService
from localvertex.services.pipelines import PipelineService
from localvertex.services.prediction import PredictionService
from localvertex.services.schedules import ScheduleService
from localvertex.services.tensorboard import TensorboardService
from localvertex.store import Store


@dataclass(frozen=True)
class ConsoleServices:
    """Everything that pages ask."""

    home: Home
    store: Store
    buckets: Buckets
    engine: Engine
    pipelines: PipelineService
    schedules: ScheduleService
    jobs: JobService
    models: ModelService
    endpoints: EndpointService
    prediction: PredictionService
    batches: BatchPredictionService
    metadata: MetadataService
    tensorboards: TensorboardService
