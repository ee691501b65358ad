"""Protects what the old pipeline.config let people choose: typed settings of detection, which reach its trials."""

from __future__ import annotations

import re
from typing import Any

import pytest

from images.launcher.tune import Search
from images.trainer import hyperparameters as spaces
from images.trainer.systems.detection import pipeline_config
from pipelines import UserError, settings
from pipelines.cli import compile, run
from pipelines.cli.targets import TARGETS

SPACE = spaces.of("detection")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compiled pipeline."""
    path = tmp_path_factory.mktemp("detection") / "detection.json"
    compile.write("detection", path)
    return compile.load(path)


def decided(spec: dict[str, Any], arguments: str = "", target: str = "local") -> dict[str, Any]:
    """What a run with these arguments tells the search not to search."""
    environment = settings.environment(TARGETS[target].settings)
    values = run.parameters("detection", spec, environment, TARGETS[target], arguments)
    (told,) = [
        component["dag"]["tasks"]["tune"]["inputs"]["parameters"]["given"]["runtimeValue"]["constant"]
        for component in spec["components"].values()
        if "tune" in component.get("dag", {}).get("tasks", {})
    ]
    given = re.sub(r"\{\{\$\.inputs\.parameters\['pipelinechannel--(\w+)'\]\}\}", lambda of: str(values[of[1]]), told)
    return Search("detection", "e", "i", 1, 1, 1, 1, given=given).decided


@pytest.mark.parametrize("target", ["local", "vertex"])
def test_the_settings_are_the_known_good_values_and_leave_the_rate_to_the_search(spec, target) -> None:
    known = spaces.to_dict(SPACE())
    del known["learning_rate"]
    assert decided(spec, target=target) == known


def test_each_can_be_chosen_by_whoever_runs(spec) -> None:
    chosen = {
        "learning_rate": 0.002, "batch_size": 8, "optimizer": "momentum", "schedule": "exponential", "width": 16,
        "depth": 2, "zoom": 1.0, "stretch": 0.0, "flip": 0.25, "colour": 1.0, "nms_iou": 0.6,
    }  # fmt: skip
    assert set(chosen) == set(spaces.to_dict(SPACE()))
    assert decided(spec, " ".join(f"{name}={value}" for name, value in chosen.items())) == chosen


def test_what_an_old_config_says_is_what_the_trials_are_told(spec) -> None:
    done = pipeline_config.convert("""
        model { ssd { image_resizer { fixed_shape_resizer { height: 320 width: 320 } } } }
        train_config { batch_size: 24 num_steps: 9000 optimizer { momentum_optimizer { learning_rate {
        cosine_decay_learning_rate { learning_rate_base: .0008 } } } } }
    """)
    found = decided(spec, " ".join(f"{name}={value}" for name, value in done.parameters.items()))
    assert found == done.hyperparameters


@pytest.mark.parametrize(
    "argument", ["optimizer=sgd", "schedule=step", "learning_rate=fast", "flip=2", "batch_size=8.5", "zoom=0.5"]
)
def test_a_wrong_one_is_refused_before_anything_is_started(spec, argument) -> None:
    with pytest.raises(UserError, match=f"ARGS: {argument}: "):
        decided(spec, argument)
