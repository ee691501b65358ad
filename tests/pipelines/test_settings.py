"""Protects the settings: what is not right is refused before a run, by name and with a way out."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import UserError, settings
from pipelines.cli import compile
from pipelines.settings import schema

SOURCE = {"source": "gs://bucket/data"}


@pytest.fixture(scope="module")
def interface(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The parameters that crnn takes."""
    path = tmp_path_factory.mktemp("settings") / "crnn.json"
    compile.write("crnn", path)
    return compile.interface(compile.load(path))


@pytest.fixture
def local() -> dict[str, Any]:
    return settings.environment("local").pipelines["crnn"]


@pytest.mark.parametrize("name", ["local", "production"])
def test_every_environment_fits_every_pipeline(name: str, interface: Any) -> None:
    environment = settings.environment(name)
    assert sorted(environment.pipelines) == compile.names()
    found = settings.parameters(interface, environment.pipelines["crnn"], given=SOURCE)
    required = {parameter for parameter, entry in interface.items() if "defaultValue" not in entry}
    assert required <= set(found) <= set(interface)


def test_arguments_win(interface: Any, local: dict[str, Any]) -> None:
    found = settings.parameters(interface, local, "max_trials=2 train_epochs=5 model_name='two words'", SOURCE)
    assert (found["max_trials"], found["train_epochs"], found["model_name"]) == (2, 5, "two words")
    assert found["trial_epochs"] == local["trial_epochs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("max_trails=2", "ARGS: max_trails: no such parameter; did you mean max_trials?"),
        ("qqq=2", "ARGS: qqq: no such parameter; there are "),
        ("max_trials=two", "ARGS: max_trials=two: must be a whole number"),
        ("max_trials=2.5", "ARGS: max_trials=2.5: must be a whole number"),
        ("max_trials=true", "ARGS: max_trials=True: must be a whole number"),
        ("max_trials=0", "ARGS: max_trials=0: should be greater than or equal to 1"),
        ("max_reject_share=NaN", "ARGS: max_reject_share=nan: should be a finite number"),
        ("max_reject_share=1.5", "ARGS: max_reject_share=1.5: should be less than or equal to 1"),
        ("timeout=1h", "ARGS: timeout=1h: "),
        ("max_trials", "ARGS: max_trials: write name=value"),
        ("model_name='open", "ARGS: No closing quotation"),
        ("source=gs://x/y", "ARGS: source is not a setting; it is made from DATA"),
        ("accelerator_count=1", "accelerator_type='' does not go with accelerator_count=1"),
    ],
)
def test_a_wrong_argument_is_refused(interface: Any, local: dict[str, Any], arguments: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        settings.parameters(interface, local, arguments, SOURCE)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tran_epochs": 3}, "settings: tran_epochs: no such parameter; did you mean train_epochs?"),
        ({"train_epochs": "3"}, "settings: train_epochs=3: must be a whole number"),
        ({"model_name": 3}, "settings: model_name=3: must be text"),
        ({"source": "gs://x"}, "settings: source is not a setting"),
    ],
)
def test_a_wrong_setting_is_refused(
    interface: Any, local: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        settings.parameters(interface, {**local, **change}, given=SOURCE)
    assert message in str(refused.value)


def test_a_missing_setting_is_refused(interface: Any, local: dict[str, Any]) -> None:
    del local["seed"]
    with pytest.raises(UserError, match="settings: seed is missing; give a whole number"):
        settings.parameters(interface, local, given=SOURCE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("project: p\nlocation: us-central1\nbucket: abc\n", "x.yaml: pipelines is missing"),
        ("- a\n", "x.yaml: must be a YAML mapping"),
        ("a: [\n", "x.yaml: while parsing"),
        ("", "x.yaml: must be a YAML mapping"),
        (
            "project: p\nlocation: us-central1\nbuckett: abc\npipelines: {}\nbucket: abc\n",
            "x.yaml: buckett: no such setting; did you mean bucket?",
        ),
        ("project: 3\nlocation: us-central1\nbucket: abc\npipelines: {}\n", "x.yaml: project=3: should be"),
        ("project: p\nlocation: here\nbucket: abc\npipelines: {}\n", "x.yaml: location=here: "),
        ("project: p\nlocation: us-central1\nbucket: gs://abc\npipelines: {}\n", "x.yaml: bucket=gs://abc: "),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        settings.environment("x", folder=tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(UserError, match=r"no such settings file; there are local, production"):
        settings.environment("staging")


@given(st.text(), st.sampled_from(sorted(schema.TYPES)))
def test_any_text_is_a_value_or_refused(text: str, kind: str) -> None:
    interface = {"name": {"parameterType": kind}}
    try:
        (found,) = settings.parameters(interface, {}, f"name={schema.shlex.quote(text)}").values()
    except UserError as refused:
        assert str(refused).startswith("ARGS: name")
    else:
        assert isinstance(found, {"STRING": str, "BOOLEAN": bool, "LIST": list, "STRUCT": dict}.get(kind, (int, float)))
