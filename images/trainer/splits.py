"""Training, validation and test: 80, 10 and 10 of a hundred, by whole groups, the same on every run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
_HELD_OUT_SHARE = 0.1


def joined(names: Sequence[str], contents: Sequence[Hashable]) -> list[str]:
    """Joins groups that hold the same content, so that no duplicate is on both sides of a split.

    Args:
        names: the group of each input.
        contents: a digest of each input's content.

    Returns:
        For each input the first name, in order of the alphabet, of all groups it is joined to.
    """
    parents = {name: name for name in names}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    first_with: dict[Hashable, str] = {}
    for name, content in zip(names, contents, strict=True):
        one, other = root(first_with.setdefault(content, name)), root(name)
        parents[max(one, other)] = min(one, other)
    return [root(name) for name in names]


def assigned(groups: Iterable[str]) -> dict[str, str]:
    """Gives each group a split.

    Groups are taken in the order of a hash of their name, for test until it has its share, then for
    validation; the rest trains. A group that would overshoot by more than it helps is passed over.

    Args:
        groups: the group of each input; at least three differ.

    Returns:
        Split by group. None of the three is empty.

    Raises:
        ValueError: there are fewer than three groups.
    """
    sizes = Counter(groups)
    if len(sizes) < len(SPLITS):
        raise ValueError(f"{len(sizes)} groups cannot make {len(SPLITS)} splits")
    target = _HELD_OUT_SHARE * sizes.total()
    waiting = sorted(sizes, key=stable_hash)
    splits: dict[str, str] = {}
    for split, reserved in ((TEST, 2), (VALIDATION, 1)):
        chosen = _nearest(waiting, sizes, target, most=len(waiting) - reserved)
        splits.update(dict.fromkeys(chosen, split))
        waiting = [group for group in waiting if group not in splits]
    return splits | dict.fromkeys(waiting, TRAIN)


def stable_hash(name: str) -> bytes:
    """A hash that is the same in every process and on every machine."""
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()


def _nearest(groups: Sequence[str], sizes: Counter[str], target: float, most: int) -> list[str]:
    chosen: list[str] = []
    filled = 0
    for group in groups:
        if len(chosen) < most and filled + sizes[group] / 2 <= target:
            chosen.append(group)
            filled += sizes[group]
    return chosen or [min(groups, key=lambda group: (sizes[group], stable_hash(group)))]
