"""Protects the evaluation: numbers that agree with one another, a report that stands alone and repeats."""

import base64
import html.parser
import io
import json
import re

import pytest
from PIL import Image

from images.trainer.evaluate import evaluate, main

VOID = {"meta", "img"}


class Page(html.parser.HTMLParser):
    """Collects what a report refers to, and fails on unbalanced tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.pictures = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [values[name] for name in ("href", "src", "xlink:href") if name in values]
        if tag == "img":
            self.pictures.append(values["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("href", "src", "xlink:href")]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, trained):
    """The folder with an evaluation's two files."""
    folder = tmp_path_factory.mktemp("evaluated")
    flags = ["--system=crnn", f"--examples={trained.examples}", f"--model={trained.model}"]
    main([*flags, f"--metrics={folder}/metrics.json", f"--report={folder}/report.html"])
    return folder


def test_the_numbers_are_within_their_intervals(evaluated, trained):
    rates = json.loads((evaluated / "metrics.json").read_text())
    for name in ("cer", "wer", "exact_match"):
        assert 0 <= rates[f"{name}_low"] <= rates[name] <= rates[f"{name}_high"]
    assert rates["cer_ignoring_case"] <= rates["cer"]
    parts = rates["substitutions"] + rates["deletions"] + rates["insertions"]
    assert parts == pytest.approx(rates["cer"])
    counts = json.loads((trained.examples / "schema.json").read_text())["counts"]
    assert rates["words"] == counts["test"]


def test_the_report_needs_nothing_else(evaluated):
    page = Page((evaluated / "report.html").read_text())
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert page.pictures
    for picture in page.pictures:
        data = base64.b64decode(picture.removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(data)).size == (128, 32)


def test_the_report_says_what_was_measured(evaluated):
    text = (evaluated / "report.html").read_text()
    rates = json.loads((evaluated / "metrics.json").read_text())
    assert f"<b>{100 * rates['cer']:.1f} %</b>" in text
    for title in ("Learning curve", "Worst words", "Most confused characters", "Substitutions", "Insertions"):
        assert f"<h2>{title}</h2>" in text
    assert len(re.findall("<svg", text)) == 1


def test_the_same_model_gives_the_same_bytes(evaluated, trained, tmp_path):
    metrics, report = tmp_path / "metrics.json", tmp_path / "report.html"
    evaluate("crnn", str(trained.examples), str(trained.model), str(metrics), str(report))
    assert report.read_bytes() == (evaluated / "report.html").read_bytes()
    assert metrics.read_bytes() == (evaluated / "metrics.json").read_bytes()


def test_a_label_cannot_write_html():
    from images.trainer.report import Section, page

    text = page("<script>", "", [], [Section("a & b", pictures=[("data:,", "<b>", '"', "x")], rows=[("<i>",)])])
    assert "<script>" not in text
    assert "<i>&lt;b&gt;</i>" in text
    assert "<td>&lt;i&gt;</td>" in text


def test_metrics_reach_kfp(tmp_path, trained):
    names = ("metrics", "report")
    artifacts = {name: {"artifacts": [{"name": name, "uri": f"gs://bucket/{name}"}]} for name in names}
    task = {"outputs": {"artifacts": artifacts, "outputFile": f"{tmp_path}/executor.json"}}
    flags = ["--system=crnn", f"--examples={trained.examples}", f"--model={trained.model}"]
    outputs = [f"--metrics={tmp_path}/metrics.json", f"--report={tmp_path}/report.html"]
    main([*flags, *outputs, f"--executor_input={json.dumps(task)}"])
    written = json.loads((tmp_path / "executor.json").read_text())["artifacts"]["metrics"]["artifacts"][0]
    rates = json.loads((tmp_path / "metrics.json").read_text())
    assert rates.items() <= written["metadata"].items()


def test_a_folder_that_is_no_model_is_one_line(tmp_path, trained, stage):
    flags = ["--system=crnn", f"--examples={trained.examples}", f"--model={tmp_path}"]
    made = stage("trainer.evaluate", *flags, f"--metrics={tmp_path}/m", f"--report={tmp_path}/r")
    assert made.returncode == 2
    assert made.stderr == f"error: --model={tmp_path}: no history.csv there; give the folder that train wrote\n"
