"""The settings that an Object Detection API's `pipeline.config` stands for, and which of its fields mean nothing here.

    python -m images.trainer.systems.detection.pipeline_config pipeline.config

prints the command that trains so, all hyperparameters as JSON for the train stage alone, the fields that were used,
each with what it became, and those that could not be. A value out of the bounds of its setting is moved to the nearest
one inside.

Source: object_detection/protos in github.com/tensorflow/models (names of fields).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from images import executor
from images.executor import UserError
from images.trainer import hyperparameters as spaces
from images.trainer.hyperparameters import Choice, Discrete, Integer
from images.trainer.systems.detection import textproto
from images.trainer.systems.detection.hyperparameters import Hyperparameters
from images.trainer.systems.detection.textproto import Message


class Field(NamedTuple):
    """A field of the file that holds a value, by the names on the way to it."""

    path: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclasses.dataclass
class Converted:
    """What became of a file.

    Attributes:
        parameters: of the pipeline, those that the file decides; a rate that it gives is not searched.
        hyperparameters: all of the training's.
        used: fields, and what each became.
        unused: fields that mean nothing here, and why where that is known.
    """

    parameters: dict[str, Any]
    hyperparameters: dict[str, Any]
    used: list[tuple[str, str]]
    unused: list[tuple[str, str]]


_OPTIMIZERS = {"adam_optimizer": "adamw", "momentum_optimizer": "momentum", "rms_prop_optimizer": "rmsprop"}
_SCHEDULES = {
    "cosine_decay_learning_rate": "cosine",
    "exponential_decay_learning_rate": "exponential",
    "manual_step_learning_rate": "exponential",
    "constant_learning_rate": "constant",
}
_RATES = ("initial_learning_rate", "learning_rate_base", "learning_rate")

_CHANGES: dict[str, dict[str, Any]] = {
    "random_horizontal_flip": {"flip": 0.5},
    "random_adjust_brightness": {"colour": 0.5},
    "random_adjust_contrast": {"colour": 0.5},
    "random_adjust_saturation": {"colour": 0.5},
    "random_distort_color": {"colour": 0.7},
    "ssd_random_crop": {"zoom": 2.0, "stretch": 0.15},
    "ssd_random_crop_pad": {"zoom": 2.0, "stretch": 0.15},
    "ssd_random_crop_fixed_aspect_ratio": {"zoom": 2.0},
    "random_crop_image": {"zoom": 1.5, "stretch": 0.15},
    "random_pad_image": {"zoom": 1.5},
    "random_image_scale": {"zoom": 1.5},
}
"""Augmentations -> the hyperparameters that do the like. What the file does not ask for is not done."""

_UNCHANGED = {"zoom": 1.0, "stretch": 0.0, "flip": 0.0, "colour": 0.0}

_WHY = {
    "num_classes": "taken from the label map, or the annotations",
    "label_map_path": "a label map beside the pictures is found",
    "input_path": "the data is DATA",
    "fine_tune_checkpoint": "it is of another network",
    "anchor_generator": "the detector has no anchors",
    "feature_extractor": "another network; the size of this one is width and depth",
    "min_dimension": "the canvas has one size; max_dimension is taken",
    "eval_config": "every epoch is evaluated",
    "loss": "the losses are fixed: quality focal and generalized IoU",
    "box_coder": "boxes are coded as middle and size",
    "matcher": "cells near an object's middle answer for it",
}


def convert(text: str) -> Converted:
    """Reads a config.

    Raises:
        ValueError: it is not in the text format of protocol buffers, or a value is not of its field's type.
    """
    message = textproto.parse(text)
    chosen: dict[str, Any] = dict(_UNCHANGED) if textproto.values(message, "train_config") else {}
    done = Converted(chosen, {}, [], [])
    for field in _fields(message):
        became = {name: _within(name, value) for name, value in _became(field).items()}
        if not became:
            done.unused.append((str(field), next((_WHY[name] for name in field.path if name in _WHY), "")))
            continue
        chosen.update(became)
        done.used.append((str(field), "  ".join(f"{name}={value}" for name, value in became.items())))
    known = spaces.to_dict(Hyperparameters())
    done.hyperparameters = {name: chosen.get(name, value) for name, value in known.items()}
    return done


def _became(field: Field) -> dict[str, Any]:
    """The settings that a field stands for."""
    path, value = field
    last, before = path[-1], path[-2] if len(path) > 1 else ""
    if before == "fixed_shape_resizer" and last in ("height", "width"):
        return {f"image_{last}": value}
    if before == "keep_aspect_ratio_resizer" and last == "max_dimension":
        return {"image_height": value, "image_width": value}
    if before == "train_config" and last == "batch_size":
        return {"batch_size": value}
    if before == "train_config" and last == "num_steps":
        return {"train_steps": value, "train_epochs": value}  # No number of passes ends it before its steps do.
    if before == "batch_non_max_suppression" and last == "iou_threshold":
        return {"nms_iou": value}
    if "optimizer" in path and last in _RATES and before != "schedule":
        told = {"optimizer": _OPTIMIZERS, "schedule": _SCHEDULES}
        found = {name: known[part] for name, known in told.items() for part in path if part in known}
        return {"learning_rate": value, **found}
    if before == "random_horizontal_flip" and last == "probability":
        return {"flip": value}
    return next((_CHANGES[name] for name in path if name in _CHANGES and name != before), {})


def _fields(message: Message, path: tuple[str, ...] = ()) -> Iterator[Field]:
    """The values in a message and in those inside it; an empty one is a field itself."""
    for name, value in message:
        if isinstance(value, list) and value:
            yield from _fields(value, (*path, name))
        else:
            yield Field((*path, name), "" if isinstance(value, list) else value)


def _within(name: str, value: Any) -> Any:
    """The nearest value that a setting can have."""
    if name in ("image_height", "image_width"):
        return max(32, 32 * round(float(value) / 32))
    if name in ("train_steps", "train_epochs"):
        return max(1, int(value))
    (space,) = (each.metadata["space"] for each in dataclasses.fields(Hyperparameters) if each.name == name)
    if isinstance(space, Choice):
        return value
    number = float(value)
    if isinstance(space, Discrete):
        return min(space.values, key=lambda each: abs(math.log(each / max(number, 1e-9))))
    number = min(max(number, space.low), space.high)
    return int(number) if isinstance(space, Integer) else number


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m images.trainer.systems.detection.pipeline_config",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("config", help="an Object Detection API's pipeline.config")
    parser.add_argument("--hyperparameters", help="a JSON file to write too, as the train stage reads it")
    flags = parser.parse_args(argv)
    try:
        done = convert(Path(flags.config).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{flags.config}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{flags.config}: no pipeline.config in text format ({error})") from None
    given = " ".join(f"{name}={value}" for name, value in done.parameters.items())
    print(f'make run PIPELINE=detection ARGS="{given}"')
    print(json.dumps(done.hyperparameters, indent=2))
    for title, rows in (("used", done.used), ("not used", done.unused)):
        print(f"{title}:")
        for name, what in rows:
            print(f"  {name}{': ' if what else ''}{what}")
    if flags.hyperparameters:
        with executor.whole(flags.hyperparameters) as aside:
            aside.write_text(json.dumps(done.hyperparameters, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    executor.run(main)
