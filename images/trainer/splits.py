"""Training, validation and test: 80, 10 and 10 of a hundred, by whole groups, the same on every run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

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
        first = first_with.setdefault(content, name)
        if first != name:
            one, other = root(first), root(name)
            parents[max(one, other)] = min(one, other)
    roots = {name: root(name) for name in parents}
    return [roots[name] for name in names]


def assigned(groups: Sequence[str], strata: Sequence[str] = (), given: Sequence[str] = ()) -> dict[str, str]:
    """Gives each group a split.

    Groups are taken in the order of a hash of their name, for test until it has its share, then for
    validation; the rest trains. A group that would overshoot by more than it helps is passed over.

    Args:
        groups: the group of each input.
        strata: of each input, what every split is to hold in equal shares, such as its class; a group counts
            with its first input. Left out: no strata.
        given: of each input, the split that the source puts it in, or "" where it leaves that open; a group
            follows its first input. A source that has a test split, or a validation split, gets no other.

    Returns:
        Split by group. None of the three is empty, unless strata or what is given leave too few groups.

    Raises:
        ValueError: there are fewer than three groups.
    """
    if len(set(groups)) < len(SPLITS):
        raise ValueError(f"{len(set(groups))} groups cannot make {len(SPLITS)} splits")
    strata, given = strata or [""] * len(groups), given or [""] * len(groups)
    stratum_of: dict[str, str] = {}
    fixed: dict[str, str] = {}
    for group, stratum, split in zip(groups, strata, given, strict=True):
        stratum_of.setdefault(group, stratum)
        fixed.setdefault(group, split)
    wanted = [split for split in (TEST, VALIDATION) if split not in fixed.values()]
    splits = {group: split for group, split in fixed.items() if split and (split != TRAIN or not wanted)}
    by_stratum: dict[str, Counter[str]] = {}
    for group, size in Counter(groups).items():
        if group not in splits:
            by_stratum.setdefault(stratum_of[group], Counter())[group] = size
    for _, sizes in sorted(by_stratum.items()):
        splits |= _divided(sizes, wanted)
    return splits


def _divided(sizes: Counter[str], held_out: Sequence[str]) -> dict[str, str]:
    """Gives each of these splits its share of the groups, as long as one is left to train on."""
    target = _HELD_OUT_SHARE * sizes.total()
    waiting = sorted(sizes, key=stable_hash)
    splits: dict[str, str] = {}
    for index, split in enumerate(held_out):
        reserved = len(held_out) - index
        if len(waiting) > reserved:
            splits |= dict.fromkeys(_nearest(waiting, sizes, target, most=len(waiting) - reserved), split)
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
