"""The export stage: a SavedModel that does all the work itself, and smoke instances to try it on.

The smoke instances carry what the SavedModel answered here: an endpoint that answers otherwise is not
healthy.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images import executor
from images.executor import ExecutorOutput, UserError
from images.trainer import roles


def export(system: str, examples: str, model: str, saved_model: str, smoke: str) -> int:
    """Writes the SavedModel and the smoke instances.

    Args:
        system: such as "crnn".
        examples: the folder that ingest wrote; its `samples.jsonl` are the smoke instances.
        model: the folder that train wrote.
        saved_model: the folder to write.
        smoke: the folder to write; `smoke.jsonl` in it has one line for each sample: `instance` as a client
            sends it, `truth`, `answer`: the name of the output that should equal it, and `expected`: what the
            SavedModel just written gives for that output and for `confidence`.

    Returns:
        How many of the smoke answers equal the truth.

    Raises:
        UserError: an input is missing or malformed.
    """
    network_file = Path(model) / "model.keras"
    if not network_file.is_file():
        raise UserError(f"--model={model}: no model.keras there; give the folder that train wrote")
    samples = _samples(examples)
    import keras
    import tensorflow as tf

    from images.trainer.examples import schema as read_schema

    schema = read_schema(examples, system)
    serving = roles.load(system, "serving")
    module = tf.Module()
    module.network = keras.models.load_model(network_file, compile=False)
    signatures = serving.signatures(module.network, schema)
    with executor.whole(saved_model) as aside:
        tf.saved_model.save(module, str(aside), signatures=signatures)
        # Where SavedModels keep what is not for TensorFlow: requests are compared with its statistics.
        extra = aside / "assets.extra"
        extra.mkdir()
        shutil.copyfile(Path(examples) / "schema.json", extra / "schema.json")
    answer = tf.saved_model.load(saved_model).signatures["serving_default"]
    right = 0
    with executor.whole(smoke) as aside:
        aside.mkdir()
        with (aside / "smoke.jsonl").open("w", encoding="utf-8") as file:
            for sample in samples:
                truth = sample.pop("label")
                outputs = answer(**{name: tf.constant([_value(value)]) for name, value in sample.items()})
                expected = {name: _plain(outputs[name][0].numpy()) for name in (serving.ANSWER, "confidence")}
                right += truth == expected[serving.ANSWER]
                line = {"instance": sample, "truth": truth, "answer": serving.ANSWER, "expected": expected}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{right} of {len(samples)} smoke instances answered right")
    return right


def _samples(examples: str) -> list[dict[str, Any]]:
    path = Path(examples) / "samples.jsonl"
    if not path.is_file():
        raise UserError(f"--examples={examples}: no samples.jsonl there; give the folder that ingest wrote")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _value(value: Any) -> Any:
    """A JSON value of an instance as a tensor's value; {"b64": …} stands for bytes."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    """A tensor's value as a JSON value."""
    return value.decode() if isinstance(value, bytes) else value.tolist()


def main(argv: Sequence[str]) -> None:
    """The command line; `--help` lists the flags."""
    parser = argparse.ArgumentParser(prog="python -m images.trainer.export", description=__doc__, allow_abbrev=False)
    parser.add_argument("--system", required=True)
    parser.add_argument("--examples", required=True, help="the folder that ingest wrote")
    parser.add_argument("--model", required=True, help="the folder that train wrote")
    parser.add_argument("--saved_model", required=True, help="the folder to write")
    parser.add_argument("--smoke", required=True, help="the folder to write")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput; leave it out by hand")
    arguments = vars(parser.parse_args(argv))
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the network was trained with
    output = ExecutorOutput(arguments.pop("executor_input"))
    right = export(**arguments)
    output.log("saved_model", digest=executor.digest(arguments["saved_model"]))
    output.log("smoke", digest=executor.digest(arguments["smoke"]), right=right)
    output.write()


if __name__ == "__main__":
    executor.run(main)
