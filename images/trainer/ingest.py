"""Ingest: a folder of raw data in, sharded TFRecords of decoded examples and their schema out.

    python -m images.trainer.ingest --system=crnn --source=FOLDER --examples=FOLDER --height=32 --width=128

The source is read once, by all cores. Decoded features wait in a spill file on local disk until all contents
are known: only then can duplicates be kept on one side of a split, and labels be learned from the training
split alone. Memory holds a few hundred bytes an input, whatever the size of its image. The output's bytes
depend on the source and the settings: not on the number of processes, the time or the place.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from images.executor import ExecutorOutput, UserError, digest, run, whole
from images.trainer import records, roles, splits
from images.trainer.candidates import UNCOUNTED, Candidate, Data, Labels, Rejection
from images.trainer.distributions import distribution
from images.trainer.sources import Source
from images.trainer.workers import Workers

SCHEMA, REJECTS, SAMPLES = "schema.json", "rejects.csv", "samples.jsonl"
OUTPUTS = {*splits.SPLITS, SCHEMA, REJECTS, SAMPLES}

_CHUNK = 128
_EXAMPLES_A_SHARD = 2048
_TRAINING_READERS = 8  # Machines that train together read disjoint shards: as many for each of up to so many.
_SAMPLES = 50
_MOST_SAMPLE_BYTES = 1_400_000  # A prediction request takes 1.5 MB.
_SECONDS_BETWEEN_LINES = 2.0


# Plain tuples go from process to process: a named one is pickled by a call of Python, which took longer than all else.
Stretch = tuple[str, int, int]
"""Where encoded features lie in the spill: file, offset and size."""


class Decoded(NamedTuple):
    """What came of reading one candidate.

    Attributes:
        file_digest: of the bytes in the source; empty when there were none.
        content: a digest of what duplicates are known by: the decoded features, or the one of them that identifies.
        stretch: where the features are, or why there are none.
        row: what is counted of it; empty where it is not among those that are counted.
        summary: what the format's statistics need of it; None where there are none.
    """

    file_digest: bytes
    content: bytes
    stretch: Stretch | Rejection
    row: tuple[float, ...] = ()
    summary: Any = None


class Input(NamedTuple):
    """A candidate with what came of reading it."""

    candidate: Candidate
    decoded: Decoded


class Rejected(NamedTuple):
    """One input left out, and why."""

    candidate: Candidate
    why: Rejection


class Member(NamedTuple):
    """An example of a split: its key, its label, that label encoded with the notes beside it, and where in the spill
    its features are."""

    candidate: Candidate
    label: Mapping[str, records.Value]
    stretch: Stretch


class Shard(NamedTuple):
    """One output file, and of each example the key, the encoded label and where in the spill its features
    are."""

    path: Path
    examples: list[tuple[str, Mapping[str, records.Value], Stretch]]


@dataclasses.dataclass
class Selection:
    """Which inputs become examples of which split, and which are left out.

    Attributes:
        labels: what was learned from the training split.
        members: of each split, shuffled.
        rejected: with the reason of each.
        split_by: what is never divided between splits: the system's groups, or inputs of equal content.
        statistics: of the training split, what schema.json says of its examples themselves.
    """

    labels: Labels
    members: dict[str, list[Member]]
    rejected: list[Rejected]
    split_by: str
    statistics: Mapping[str, Any]

    def schema(self, data: Data) -> dict[str, Any]:
        """What schema.json says of the selection."""
        kept = [member.candidate.label for members in self.members.values() for member in members]
        left_out = [(candidate.label, why.reason) for candidate, why in self.rejected]
        return {
            **data.schema(self.labels, kept, left_out),
            "counts": {split: len(members) for split, members in self.members.items()}
            | {"rejected": sum(why.counts for _, why in self.rejected)},
            "reject_reasons": dict(sorted(Counter(reason for _, reason in left_out).items())),
            "split_by": self.split_by,
            **self.statistics,
        }


class Reading(NamedTuple):
    """What every worker process needs. `spill` is a folder with one file of features a process."""

    source: Source
    data: Data
    candidates: Sequence[Candidate]
    spill: Path

    def counts(self, candidate: Candidate) -> bool:
        """Whether an input is among those that are counted, which its name decides."""
        return zlib.crc32(candidate.key.encode(errors="surrogateescape")) % len(self.candidates) < self.data.enough


def ingest(
    system: str,
    source: str | os.PathLike[str],
    examples: str | os.PathLike[str],
    settings: Mapping[str, int],
    max_reject_share: float = 0.2,
    processes: int | None = None,
) -> dict[str, Any]:
    """Turns a folder of raw data into Examples.

    Args:
        system: whose format the source is in; a folder of `images.trainer.systems`.
        source: the raw data (see `images.trainer.sources`).
        examples: the folder to write: `train`, `validation` and `test` with TFRecord shards, `schema.json`,
            `rejects.csv`, and `samples.jsonl` with originals from the test split. It replaces earlier
            Examples.
        settings: the system's own, such as `width` and `height` in pixels; what is left out has a default.
        max_reject_share: the largest share of inputs, from 0 to 1, that may be rejected. Rows that name no
            image, or one that a part of a data set does not hold, are left out and counted, but are no part of this
            share.
        processes: how many work; None: one a core. The result is the same.

    Returns:
        The content of `schema.json`.

    Raises:
        UserError: there is no such system or source, nothing usable in it, or too much of it is unusable.
    """
    if not 0 <= max_reject_share <= 1:
        raise UserError(f"--max_reject_share={max_reject_share}: must be from 0 to 1")
    data = data_of(system, settings)
    _check_replaceable(Path(examples))
    opened = Source(source)
    candidates = list(data.candidates(opened))
    with (
        tempfile.TemporaryDirectory(prefix="ingest-") as spill,
        Workers(Reading(opened, data, candidates, Path(spill)), processes) as workers,
    ):
        inputs = list(map(Input, candidates, _shown(_decode_all(workers, len(candidates)), len(candidates))))
        selection = _select(opened, data, inputs, max_reject_share)
        schema = {"system": system, **selection.schema(data), "source_digest": _source_digest(inputs)}
        with whole(examples) as aside:
            aside.mkdir()
            for _ in workers.map(_write_shard, _shards(aside, selection.members)):
                pass
            _write_rejects(aside / REJECTS, selection.rejected)
            _write_samples(aside / SAMPLES, opened, data, selection.members[splits.TEST])
            (aside / SCHEMA).write_text(json.dumps(schema, indent=2) + "\n")
    return schema


def data_of(system: str, settings: Mapping[str, int]) -> Data:
    """A system's format; raises UserError when there is no such system or a setting is wrong."""
    data: Data = roles.load(system, "data").data(settings)
    return data


def _decode_all(workers: Workers, count: int) -> Iterator[Decoded]:
    chunks = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    return itertools.starmap(Decoded, itertools.chain.from_iterable(workers.map(_decode_chunk, chunks)))


def _decode_chunk(reading: Reading, chunk: range) -> list[tuple[Any, ...]]:
    """Decodes some candidates in a worker process, onto the end of the process's own spill file.

    Returns:
        The fields of `Decoded` of each.
    """
    name = str(os.getpid())
    results = []
    with open(reading.spill / name, "ab", buffering=1 << 20) as spill:
        offset = spill.tell()
        for index in chunk:
            decoded, features = _decode(reading, reading.candidates[index], name, offset)
            spill.writelines(features)
            offset += sum(map(len, features))
            results.append(tuple(decoded))
    return results


def _decode(reading: Reading, candidate: Candidate, file: str, offset: int) -> tuple[Decoded, Sequence[bytes]]:
    """Decodes one candidate; its encoded features will lie in the spill from an offset on."""
    if candidate.fault is not None:
        return Decoded(b"", b"", candidate.fault), ()
    file_digest = b""
    try:
        original = reading.data.original(reading.source, candidate)
        file_digest = _digest(original)
        decoded = reading.data.decoded(original)
        values = reading.data.features(candidate, decoded)
        features = _encoded_features(reading.data, values)
        row = reading.data.row(decoded) if reading.counts(candidate) else ()
    except FileNotFoundError:
        return Decoded(file_digest, b"", Rejection("missing file")), ()
    except OSError as error:
        return Decoded(file_digest, b"", Rejection("file cannot be read", error.strerror or "")), ()
    except Rejection as rejection:
        return Decoded(file_digest, b"", rejection.bare()), ()
    stretch = file, offset, sum(map(len, features))
    summary = reading.data.summary(values) if hasattr(reading.data, "summary") else None
    return Decoded(file_digest, _digest(features[0]), stretch, row, summary), features


def _encoded_features(data: Data, values: Mapping[str, records.Value]) -> Sequence[bytes]:
    """All of it, what duplicates are known by first; nothing is encoded twice."""
    identity = getattr(data, "identity", "")
    if not identity:
        return (records.features(values),)
    others = {name: values[name] for name in values if name != identity}
    return records.features({identity: values[identity]}), records.features(others)


def _select(source: Source, data: Data, inputs: Sequence[Input], max_reject_share: float) -> Selection:
    readable = [each for each in inputs if not isinstance(each.decoded.stretch, Rejection)]
    rejected = [
        Rejected(candidate, decoded.stretch) for candidate, decoded in inputs if isinstance(decoded.stretch, Rejection)
    ]
    _check_enough(source, len(readable), rejected, len(inputs), max_reject_share)
    readable = list(_outside_test(readable, rejected, data.group_name))
    split_by, by_split = _split(readable, data)
    labels = data.learn([each.candidate for each in by_split[splits.TRAIN]])
    members = {split: list(_encoded(labels, by_split[split], rejected)) for split in splits.SPLITS}
    _check_enough(source, min(map(len, members.values())), rejected, len(inputs), max_reject_share)
    return Selection(labels, members, rejected, split_by, _statistics(data, by_split[splits.TRAIN]))


def _statistics(data: Data, training: Sequence[Input]) -> dict[str, Any]:
    """How what is counted of the training split's inputs and labels is distributed, and the format's own statistics."""
    columns = zip(*(each.decoded.row for each in training if each.decoded.row), strict=True)
    summaries = [each.decoded.summary for each in training]
    return {
        "columns": {name: distribution(values) for name, values in zip(data.columns, columns, strict=False)},
        "answer": distribution([data.number(each.candidate.label) for each in training]),
        **(data.statistics(summaries) if hasattr(data, "statistics") else {}),
    }


def _outside_test(readable: Sequence[Input], rejected: list[Rejected], group_name: str) -> Iterator[Input]:
    """Yields the inputs; one that the source also has among its test inputs, or whose group is there, goes to
    `rejected`."""
    tested = [each for each in readable if each.candidate.split == splits.TEST]
    contents, groups = {each.decoded.content for each in tested}, {each.candidate.group for each in tested} - {""}
    for each in readable:
        if each.candidate.split == splits.TEST:
            yield each
        elif each.decoded.content in contents:
            rejected.append(Rejected(each.candidate, Rejection("also among the source's test inputs")))
        elif each.candidate.group in groups:
            rejected.append(Rejected(each.candidate, Rejection(f"its {group_name} is among the source's test inputs")))
        else:
            yield each


def _split(readable: Sequence[Input], data: Data) -> tuple[str, dict[str, list[Input]]]:
    """Gives each input a split, and shuffles each split by a hash of the inputs' keys."""
    contents = [each.decoded.content.hex() for each in readable]
    split_by = data.group_name
    names = [each.candidate.group or content for each, content in zip(readable, contents, strict=True)]
    groups = splits.joined(names, contents)
    if len(set(groups)) < len(splits.SPLITS) or not any(each.candidate.group for each in readable):
        split_by, groups = "content", contents
    different = len(set(groups))
    if different < len(splits.SPLITS):
        raise UserError(f"{different} different usable inputs are too few for training, validation and test")
    assigned = splits.assigned(
        groups,
        [each.candidate.label if data.stratified else "" for each in readable],
        [each.candidate.split for each in readable],
    )
    by_split: dict[str, list[Input]] = {split: [] for split in splits.SPLITS}
    for each, group in zip(readable, groups, strict=True):
        by_split[assigned[group]].append(each)
    for each_split in by_split.values():
        each_split.sort(key=lambda each: (splits.stable_hash(each.candidate.key), each.candidate.key))
    return split_by, by_split


def _encoded(labels: Labels, inputs: Iterable[Input], rejected: list[Rejected]) -> Iterator[Member]:
    """Yields each input as a member of its split; one whose label cannot be encoded goes to `rejected`."""
    encode = functools.cache(labels.encode)  # Equal labels are one object, which is pickled once a shard.
    for candidate, decoded in inputs:
        try:
            label = encode(candidate.label)
        except Rejection as why:
            rejected.append(Rejected(candidate, why.bare()))
        else:
            assert not isinstance(decoded.stretch, Rejection)
            noted = {**candidate.notes, **label} if candidate.notes else label
            yield Member(candidate, noted, decoded.stretch)


def _shards(folder: Path, members: Mapping[str, Sequence[Member]]) -> Iterator[Shard]:
    for split, of_split in members.items():
        (folder / split).mkdir()
        count = math.ceil(len(of_split) / _EXAMPLES_A_SHARD)
        if split == splits.TRAIN:
            count = min(len(of_split), _TRAINING_READERS * math.ceil(count / _TRAINING_READERS))
        for index in range(count):
            part = of_split[index * len(of_split) // count : (index + 1) * len(of_split) // count]
            path = folder / split / f"part-{index:05d}-of-{count:05d}.tfrecord"
            yield Shard(path, [(candidate.key, label, stretch) for candidate, label, stretch in part])


def _write_shard(reading: Reading, shard: Shard) -> None:
    """Writes one shard in a worker process."""
    with contextlib.ExitStack() as spills:
        names = {file for _, _, (file, _, _) in shard.examples}
        files = {name: spills.enter_context(open(reading.spill / name, "rb")).fileno() for name in names}
        records.write(
            shard.path,
            (
                records.example(os.pread(files[file], size, offset), records.features({**label, "key": key}))
                for key, label, (file, offset, size) in shard.examples
            ),
        )


def _write_rejects(path: Path, rejected: Sequence[Rejected]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("location", "key", "label", "reason"))
        by_place = sorted(rejected, key=lambda each: (each.candidate.location, each.candidate.key))
        for candidate, why in by_place:
            table.writerow(map(_printable, (candidate.location, candidate.key, candidate.label, str(why))))


def _write_samples(path: Path, source: Source, data: Data, members: Iterable[Member]) -> None:
    candidates = (member.candidate for member in members)
    originals = ((candidate, data.original(source, candidate)) for candidate in candidates)
    samples = (
        json.dumps({"key": candidate.key, "label": candidate.label, **data.instance(original)}) + "\n"
        for candidate, original in originals
    )
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(itertools.islice((each for each in samples if len(each) <= _MOST_SAMPLE_BYTES), _SAMPLES))


def _check_replaceable(examples: Path) -> None:
    """Refuses to write over a folder that holds anything else than Examples."""
    if examples.is_file():
        raise UserError(f"--examples={examples}: a file stands there; give a folder")
    strange = sorted(set(os.listdir(examples)) - OUTPUTS) if examples.is_dir() else []
    if strange:
        raise UserError(f"--examples={examples}: {strange[0]} is no part of Examples; give another folder")


def _check_enough(
    source: Source, usable: int, rejected: Sequence[Rejected], inputs: int, max_reject_share: float
) -> None:
    dropped = sum(why.reason in UNCOUNTED or not why.counts for _, why in rejected)
    faulty, listed = len(rejected) - dropped, inputs - dropped
    if faulty > max_reject_share * listed:
        problem = f"{faulty:,} of {listed:,} inputs rejected; max_reject_share allows {max_reject_share:.0%}"
    elif not usable:
        problem = f"too little usable data in {inputs:,} inputs for training, validation and test"
    else:
        return
    count = Counter(why.reason for _, why in rejected)
    first = {why.reason: _printable(f"{candidate.place}: {why}") for candidate, why in reversed(rejected)}
    reasons = [f"\n  {number:,} {reason}; first {first[reason]}" for reason, number in count.most_common()]
    raise UserError(f"{source.root}: {problem}{''.join(reasons)}")


def _source_digest(inputs: Iterable[Input]) -> str:
    lines = sorted(
        b"\0".join(
            (
                candidate.key.encode(errors="surrogateescape"),
                candidate.location.encode(errors="surrogateescape"),
                candidate.label.encode(errors="surrogateescape"),
                candidate.group.encode(errors="surrogateescape"),
                decoded.file_digest,
            )
        )
        for candidate, decoded in inputs
    )
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _shown(results: Iterable[Decoded], total: int) -> Iterator[Decoded]:
    """Passes results on, and prints from time to time how far it is."""
    started = shown = time.monotonic()
    for done, result in enumerate(results, start=1):
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES or done == total:
            shown = now
            rate = done / max(now - started, 1e-3)
            print(f"read {done:,} of {total:,} inputs  {rate:,.0f} a second", flush=True)
        yield result


def main(arguments: Sequence[str]) -> None:
    """Runs the stage with flags; raises UserError for a mistake of the caller."""
    parser = argparse.ArgumentParser(
        prog="python -m images.trainer.ingest", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--system", required=True, help="whose format the source is in, such as crnn")
    parser.add_argument("--source", required=True, help="folder of raw data, or folder with one source.tar")
    parser.add_argument("--examples", required=True, help="folder to write")
    parser.add_argument("--height", type=int, help="of the network's image, in pixels, where that is a choice")
    parser.add_argument("--width", type=int, help="of the network's image, in pixels, where that is a choice")
    parser.add_argument(
        "--faces_only", choices=("true", "false"), help="of pets, the boxes of faces or of all the animal"
    )
    parser.add_argument("--max_reject_share", type=float, default=0.2, help="0 to 1; fail above it")
    parser.add_argument("--processes", type=int, help="how many work at once; a process a core if left out")
    parser.add_argument("--executor_input", help="KFP's ExecutorInput as JSON; left out when called by hand")
    flags = parser.parse_args(arguments)
    output = ExecutorOutput(flags.executor_input)
    schema = ingest(
        flags.system,
        flags.source,
        flags.examples,
        _settings(flags),
        flags.max_reject_share,
        flags.processes,
    )
    counts = schema["counts"]
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()), flush=True)
    for reason, count in schema["reject_reasons"].items():
        print(f"  {count:,} rejected: {reason}", flush=True)
    output.log("examples", digest=digest(flags.examples), source_digest=schema["source_digest"], **counts)
    output.write()


def _settings(flags: argparse.Namespace) -> dict[str, int]:
    """The system's own settings, of those that were given."""
    given = {name: getattr(flags, name) for name in ("height", "width")}
    given["faces_only"] = {"true": 1, "false": 0}.get(flags.faces_only)
    return {name: value for name, value in given.items() if value is not None}


if __name__ == "__main__":
    run(main)
