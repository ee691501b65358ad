"""Reads the Examples folder that ingest wrote: TFRecord shards described by their `schema.json`."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import tensorflow as tf

from images.executor import UserError
from images.trainer import workers

SHUFFLE_BUFFER = 16_384


def schema(examples: str | Path, system: str) -> dict[str, Any]:
    """Reads `schema.json`.

    Args:
        examples: the folder that ingest wrote.
        system: the system that it must be for.

    Raises:
        UserError: there is no such file, it is another system's, or a split that is needed has no example.
    """
    path = Path(examples) / "schema.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--examples={examples}: no schema.json there; give the folder that ingest wrote") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run ingest again") from None
    if found.get("system") != system:
        raise UserError(f"--examples={examples}: examples of {found.get('system')}, not of {system}")
    for split in ("train", "validation", "test"):
        if not found["counts"][split]:
            raise UserError(f"--examples={examples}: no {split} examples; give ingest more data")
    return found


def batches(
    examples: str | Path,
    schema: dict[str, Any],
    split: str,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    limit: int | None = None,
    stream: tuple[int, int] = (0, 1),
    steps: int | None = None,
    length_step: int = 1,
) -> tf.data.Dataset:
    """Reads one split in batches, always in the same order for the same arguments.

    Args:
        examples: the folder that ingest wrote.
        schema: its `schema.json`; `features` names each feature with `shape` and `dtype`: uint8 arrays of
            fixed shape are stored as bytes, numbers of shape [null] are padded with 0, strings are scalars.
        split: "train", "validation" or "test".
        batch_size: examples a batch; the last may have fewer.
        shuffle_seed: the order; None: as stored.
        limit: at most so many examples, spread over the whole split; None: all.
        stream: (index, count): of so many readers this is the one that reads each count-th shard from this one on.
        steps: so many batches, all of them full: where the examples end, they begin anew. None: each example once.
        length_step: numbers of shape [null] are padded to the multiple of this that the longest in the batch needs.

    Returns:
        A dataset of dictionaries, feature name -> tensor [batch, *shape].

    Raises:
        UserError: a split has no shard, or fewer than there are streams.
    """
    shards = sorted(str(path) for path in (Path(examples) / split).glob("part-*.tfrecord"))
    if not shards:
        raise UserError(f"{Path(examples) / split}: no part-*.tfrecord there; run ingest again")
    index, streams = stream
    if len(shards) < streams:
        raise UserError(f"{Path(examples) / split}: {len(shards)} shards are too few for {streams} readers")
    records = tf.data.TFRecordDataset(shards[index::streams])
    if limit is not None:
        records = records.shard(max(1, schema["counts"][split] // limit), 0).take(limit // streams)
    if shuffle_seed is not None:
        buffer = max(1, min(count(schema, split, limit), SHUFFLE_BUFFER) // streams)
        records = records.shuffle(buffer, seed=shuffle_seed, reshuffle_each_iteration=False)
    if steps is not None:
        records = records.repeat().take(steps * batch_size)
    parse = _parser(json.dumps(schema["features"]), length_step)
    parsed = records.batch(batch_size).map(parse, num_parallel_calls=workers.cores(), deterministic=True)
    length = math.ceil(count(schema, split, limit) / batch_size) if steps is None else steps
    return parsed.apply(tf.data.experimental.assert_cardinality(length)).with_options(untuned())


def untuned() -> tf.data.Options:
    """Without tf.data's tuner: what ends waits until that looks again, after 10, 20, 40 ms and so on to a minute."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def count(schema: dict[str, Any], split: str, limit: int | None = None) -> int:
    """The number of examples that `batches` gives with this limit."""
    stored: int = schema["counts"][split]
    return stored if limit is None else min(stored, limit)


@functools.cache
def _parser(described: str, length_step: int) -> Any:
    """What makes tensors of serialized examples. Traced once: an epoch may be shorter than its tracing."""
    features = json.loads(described)
    stored = {name: _stored(feature) for name, feature in features.items()}

    @tf.function
    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(serialized, stored)
        return {name: _decoded(parsed[name], feature, length_step) for name, feature in features.items()}

    return parse


def _stored(feature: dict[str, Any]) -> Any:
    if feature["dtype"] in ("uint8", "string"):
        return tf.io.FixedLenFeature([], tf.string)
    dtype = tf.as_dtype(feature["dtype"])
    if feature["shape"][:1] == [None]:
        return tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True, default_value=0)
    return tf.io.FixedLenFeature(feature["shape"], dtype)


def _decoded(value: tf.Tensor, feature: dict[str, Any], length_step: int) -> tf.Tensor:
    if feature["dtype"] == "uint8":
        pixels = tf.io.decode_raw(value, tf.uint8, fixed_length=math.prod(feature["shape"]))
        return tf.reshape(pixels, [-1, *feature["shape"]])
    if feature["shape"][:1] == [None]:
        return tf.pad(value, [[0, 0], [0, -tf.shape(value)[1] % length_step]])
    return value
