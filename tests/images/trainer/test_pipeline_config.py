"""Protects those who come from the Object Detection API: what of their config is used, and what is told not to be."""

import json
import shlex

import pytest

from images.executor import UserError
from images.trainer import hyperparameters as spaces
from images.trainer.systems.detection import pipeline_config

CONFIG = """
model {
  ssd {
    num_classes: 1
    image_resizer { fixed_shape_resizer { height: 300 width: 300 } }  # as published
    feature_extractor { type: 'ssd_mobilenet_v1' }
    post_processing { batch_non_max_suppression { score_threshold: 1e-8 iou_threshold: 0.6 } }
  }
}
train_config: {
  batch_size: 12
  optimizer { rms_prop_optimizer: { learning_rate: { exponential_decay_learning_rate {
    initial_learning_rate: 0.004 decay_steps: 800720 decay_factor: 0.95 } } momentum_optimizer_value: 0.9 } }
  fine_tune_checkpoint: "model.ckpt"
  num_steps: 200000
  data_augmentation_options { random_horizontal_flip { } }
  data_augmentation_options { ssd_random_crop { } }
}
"""


def test_what_means_something_is_used_and_the_rest_is_told():
    done = pipeline_config.convert(CONFIG)
    assert done.parameters == {
        "image_height": 288, "image_width": 288, "nms_iou": 0.6, "batch_size": 16, "optimizer": "rmsprop",
        "schedule": "exponential", "learning_rate": 0.004, "train_steps": 200000, "train_epochs": 200000,
        "flip": 0.5, "zoom": 2.0, "stretch": 0.15, "colour": 0.0,
    }  # fmt: skip
    chosen = spaces.parse(spaces.of("detection"), done.hyperparameters)
    assert (chosen.optimizer, chosen.schedule, chosen.learning_rate) == ("rmsprop", "exponential", 0.004)
    assert (chosen.nms_iou, chosen.flip, chosen.zoom, chosen.colour) == (0.6, 0.5, 2.0, 0.0)
    assert chosen.batch_size == 16
    left = dict(done.unused)
    assert left["train_config.fine_tune_checkpoint"] == "it is of another network"
    assert "model.ssd.post_processing.batch_non_max_suppression.score_threshold" in left
    fields = 2 + 1 + 1 + 2 + 1 + 4 + 1 + 1 + 2
    assert len(done.used) + len(done.unused) == fields


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("momentum_optimizer { learning_rate { cosine_decay_learning_rate { learning_rate_base: 0.01 } } }",
         ("momentum", "cosine", 0.01)),
        ("adam_optimizer { learning_rate { constant_learning_rate { learning_rate: 5.0 } } }",
         ("adamw", "constant", 0.016)),
        ("momentum_optimizer { learning_rate { manual_step_learning_rate { initial_learning_rate: .002 "
         "schedule { step: 9 learning_rate: .0002 } } } }",
         ("momentum", "exponential", 0.002)),
    ],
)  # fmt: skip
def test_optimizers_and_schedules(rate, expected):
    chosen = pipeline_config.convert(f"train_config {{ optimizer {{ {rate} }} }}").hyperparameters
    assert (chosen["optimizer"], chosen["schedule"], chosen["learning_rate"]) == expected
    assert chosen["zoom"] == 1.0, "augmentation that nobody asked for"


def test_aspect_keeping_is_what_the_canvas_does():
    resizer = "keep_aspect_ratio_resizer { min_dimension: 600 max_dimension: 1024 }"
    text = f"model {{ faster_rcnn {{ image_resizer {{ {resizer} }} }} }}"
    assert pipeline_config.convert(text).parameters == {"image_height": 1024, "image_width": 1024}


def test_the_command_prints_and_writes(tmp_path, capsys):
    (tmp_path / "pipeline.config").write_text(CONFIG)
    pipeline_config.main([f"{tmp_path}/pipeline.config", f"--hyperparameters={tmp_path}/chosen.json"])
    printed = capsys.readouterr().out
    (command,) = [line for line in printed.splitlines() if line.startswith("make run PIPELINE=detection ARGS=")]
    (arguments,) = shlex.split(command)[3:]
    given = pipeline_config.convert(CONFIG).parameters
    assert arguments == "ARGS=" + " ".join(f"{name}={value}" for name, value in given.items())
    assert "not used:" in printed
    spaces.parse(spaces.of("detection"), json.loads((tmp_path / "chosen.json").read_text()))


@pytest.mark.parametrize("content", [None, "model {", "train_config { batch_size: many }"])
def test_a_file_that_is_none_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "pipeline.config").write_text(content)
    with pytest.raises(UserError, match=r"pipeline\.config: "):
        pipeline_config.main([f"{tmp_path}/pipeline.config"])
