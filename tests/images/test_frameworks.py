"""Protects the start of each stage: TensorFlow and Keras bring no package that nothing asks them for, and hide none."""

import json
import os
import subprocess
import sys

import pytest

LOOKED_FOR = {"sklearn", "matplotlib", "pandas", "jax"}


def loaded(before="", after="", **environment):
    """The backend, and which of these packages a process has that runs `before`, imports Keras, and runs `after`."""
    code = (
        f"import json, sys\n{before}\nimport images.trainer\nimport keras, tensorflow\n{after}\n"
        f"print(json.dumps([keras.backend.backend(), sorted(sys.modules.keys() & {LOOKED_FOR})]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert made.returncode == 0, made.stderr
    backend, found = json.loads(made.stdout)
    return backend, set(found)


def test_they_are_imported_alone():
    assert loaded() == ("tensorflow", set())


def test_the_backend_is_not_hidden():
    assert loaded(KERAS_BACKEND="jax") == ("jax", {"jax"})


def test_the_others_are_there_before_and_after():
    use = "import sklearn.base, matplotlib.figure\nassert pandas.DataFrame({'a': [1]}).shape == (1, 1)"
    assert loaded("import pandas", use) == ("tensorflow", {"pandas", "sklearn", "matplotlib"})


def test_one_that_is_missing_is_still_missed(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('broken')")
    with pytest.raises(AssertionError, match="broken"):
        loaded(PYTHONPATH=str(tmp_path))
