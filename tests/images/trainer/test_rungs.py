"""Protects early stopping among trials: who is behind at a rung ends there, and the best never does."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.trainer import rungs


@pytest.mark.parametrize(("epochs", "expected"), [(1, []), (3, []), (4, [3]), (9, [3]), (10, [3, 9]), (28, [3, 9, 27])])
def test_rungs_are_three_times_as_far_each_and_none_is_at_the_end(epochs: int, expected: list[int]) -> None:
    assert [epoch for epoch in range(1, epochs + 1) if rungs.is_rung(epoch, epochs)] == expected


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=40))
def test_a_third_goes_on_and_the_best_is_among_them(losses: list[float]) -> None:
    go_on = [loss for loss in losses if not rungs.behind(loss, losses)]
    assert min(losses) in go_on
    assert len(set(go_on)) <= -(-len(losses) // rungs.FACTOR) <= len(go_on)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12, unique=True), st.integers())
def test_the_best_goes_on_in_whatever_order_they_come(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("rungs")
    random.Random(seed).shuffle(losses)
    found = [rungs.compare(folder, str(number), 2, loss)[0] for number, loss in enumerate(losses)]
    assert not found[0], "nobody is there yet"
    assert not found[losses.index(min(losses))]
    again = rungs.compare(folder, "0", 2, losses[0])[1]
    assert again.endswith(f"of {len(losses)} after epoch 2"), "a trial that is begun anew counts once"


def test_many_at_once_read_whole_notes_only(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from images.trainer import rungs\n"
        "for epoch in range(300): rungs.compare(Path(sys.argv[1]), sys.argv[2], epoch, float(sys.argv[2]))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(number)], stderr=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert sorted(path.name for path in (tmp_path / "299").iterdir()) == ["0.loss", "1.loss", "2.loss"]
