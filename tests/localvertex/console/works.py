"""Things for pages to show: a pipeline's run with artifacts of every kind, a tuning job, a model that is served."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from tests.localvertex.console.support import PARENT, Console

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
FINISHED = ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED")

# Each task is this file's text run by Python: it is told where to write, and by KFP's protocol says what it wrote.
TASK = r"""
import csv, json, os, struct, sys, zlib
HOSTILE = sys.argv[1]
paths, told = dict(each.split("=", 1) for each in sys.argv[3:]), json.loads(sys.argv[2])

def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())

def png(shade, side=24):
    rows = b"".join(b"\0" + bytes((x * 255 // side + shade) % 256 for x in range(side)) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)

def field(number, content):
    size, head = len(content), bytes([number << 3 | 2])
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return head + bytes([size]) + content

def example(**features):
    entries = b""
    for name, value in features.items():
        held = field(1, field(1, value)) if isinstance(value, bytes) else field(3, bytes([8, value]))
        entries += field(1, field(1, name.encode()) + field(2, held))
    return field(1, entries)

def shard(records):
    return b"".join(struct.pack("<Q", len(r)) + b"----" + r + b"----" for r in records)

def ingest():
    folder = paths["examples"]
    for split, count in (("train", 5), ("test", 2)):
        records = [example(image=bytes((x * 9 + n * 40) % 256 for x in range(28 * 28)), label=n) for n in range(count)]
        write(f"{folder}/{split}/part-00000-of-00001.tfrecord", shard(records))
    features = {"image": {"dtype": "uint8", "shape": [28, 28, 1]}, "label": {"dtype": "int64", "shape": []}}
    write(f"{folder}/schema.json", json.dumps({"features": features, "counts": {"train": 5, "test": 2}}))
    write(f"{folder}/rejects.csv", 'location,reason\n"a, b",too small\n' + HOSTILE.replace('"', "'") + ",strange\n")
    for number in range(3):
        write(f"{folder}/pictures/{number}.png", png(60 * number))
    write(f"{folder}/pictures/evil.svg", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" '
          'height="9" fill="red"/><script>top.document.title = "taken"</script></svg>')
    os.symlink("/etc/passwd", f"{folder}/linked.txt")
    write(f"{folder}/{'<b>odd</b>'}.txt", "odd " + HOSTILE)

def train():
    write(paths["model"] + "/weights.bin", paths["rate"].encode() + bytes(2048))
    write(paths["model"] + "/history.csv", "epoch,loss\n" + "".join(f"{n},{1 / (n + 1):.3f}\n" for n in range(40)))

def evaluate():
    write(paths["report"], "<!doctype html><title>r</title><style>h1{color:green}</style><h1>The report</h1><script>"
          "document.body.innerHTML = 'taken'; top.document.title = 'taken'</script>" + HOSTILE)
    points = [(n / 10, 1 - n / 10, (1 - n / 10) ** 3, 0.5 + n / 20) for n in range(11)]
    confusion = {
        "confusionMatrix": {"annotationSpecs": [{"displayName": name} for name in ("cat", "dog", HOSTILE)],
                            "rows": [{"row": [50, 2, 0]}, {"row": [5, 40, 1]}, {"row": [0, 0, 9]}]},
        "confidenceMetrics": [{"confidenceThreshold": t, "recall": r, "falsePositiveRate": f, "precision": p}
                              for t, r, f, p in points],
    }
    numbers = {"accuracy": 0.9346, "examples": 107, "note": HOSTILE}
    outputs = told["outputs"]["artifacts"]
    for name, metadata in (("metrics", numbers), ("classes", confusion)):
        outputs[name]["artifacts"][0]["metadata"] = metadata
    write(told["outputs"]["outputFile"], json.dumps({"artifacts": outputs}))

globals()[paths["do"]]()
"""


def _task(do: str, **paths: Any) -> dsl.ContainerSpec:
    arguments = [HOSTILE, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER, f"do={do}"]
    return dsl.ContainerSpec(
        image="example.test/task:1",
        command=[sys.executable, "-c", TASK],
        args=[*arguments, *(dsl.ConcatPlaceholder([f"{name}=", path]) for name, path in paths.items())],
    )


@dsl.container_component
def ingest(source: Input[Artifact], examples: Output[Dataset]):
    return _task("ingest", source=source.path, examples=examples.path)


@dsl.container_component
def train(examples: Input[Dataset], rate: float, model: Output[Model]):
    return _task("train", rate=rate, examples=examples.path, model=model.path)


@dsl.container_component
def evaluate(
    examples: Input[Dataset],
    model: Input[Model],
    metrics: Output[Metrics],
    classes: Output[ClassificationMetrics],
    report: Output[HTML],
):
    return _task("evaluate", model=model.path, report=report.path)


@dsl.pipeline(name="learn")
def learn(source: str, rate: float = 0.1) -> None:
    data = dsl.importer(artifact_uri=source, artifact_class=dsl.Artifact).set_display_name("source")
    examples = ingest(source=data.output).outputs["examples"]
    model = train(examples=examples, rate=rate).outputs["model"]
    evaluate(examples=examples, model=model)


def run(console: Console, folder: Path, id: str, rate: float = 0.1) -> dict[str, str]:
    """A finished run of `learn`.

    Args:
        id: of the run.
        rate: with another one, what depends on it is made anew, and the rest comes from the cache.

    Returns:
        Resource names of the artifacts in it, by the name of the output.
    """
    source = console.home.gcs / "data" / "source"
    source.mkdir(parents=True, exist_ok=True)
    (source / "words.txt").write_text("some data\n")
    file = folder / "learn.json"
    compiler.Compiler().compile(learn, str(file))
    body = {
        "displayName": id,
        "pipelineSpec": json.loads(file.read_text()),
        "runtimeConfig": {
            "gcsOutputDirectory": "gs://bucket/root",
            "parameterValues": {"source": "gs://data/source", "rate": rate},
        },
    }
    name = console.call(f"{PARENT}/pipelineJobs?pipelineJobId={id}", body)["name"]
    job = finished(console, name)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job.get("error")
    return {
        output: artifacts["artifacts"][0]["name"]
        for task in job["jobDetail"]["taskDetails"]
        for output, artifacts in task.get("outputs", {}).items()
    }


# What somebody may call things to take a page over: it would close any tag or attribute that it is put into.
NAME = "\"'></title><img src=x onerror=\"document.title='taken'\"><svg onload=alert(1)>{{7*7}}"
TASK_NAME = NAME.replace("/", "")  # which is refused in the name of a task

NAMED = r"""
import json, os, sys
told, name = json.loads(sys.argv[1]), sys.argv[2]
print("printed", name)
((output, made),) = told["outputs"]["artifacts"].items()
link = "javascript:alert(1)"
made["artifacts"][0]["metadata"] = {name: name, "score": 0.5, "in": {name: [name]}, "resourceName": link}
os.makedirs(os.path.dirname(told["outputs"]["outputFile"]), exist_ok=True)
with open(told["outputs"]["outputFile"], "w") as file:
    json.dump({"artifacts": {output: made}}, file)
"""


def hostile_pipeline() -> dict[str, Any]:
    """A pipeline that is called all it can be, written by hand: the compiler would not."""
    command = [sys.executable, "-c", NAMED, "{{$}}"]
    given = {"parameters": {NAME: {"parameterType": "STRING"}}}
    made = {"artifacts": {TASK_NAME: {"artifactType": {"schemaTitle": "system.Metrics"}}}}
    first, second, third = (f"{TASK_NAME}{number}" for number in (1, 2, 3))
    return {
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": "hostile"},
        "deploymentSpec": {
            "executors": {
                "named": {"container": {"image": "alpine:3", "command": command, "args": [NAME]}},
                "fails": {"container": {"image": "alpine:3", "command": ["sh", "-c", 'echo "$0"; exit 3', NAME]}},
            }
        },
        "components": {
            "named": {"executorLabel": "named", "inputDefinitions": given, "outputDefinitions": made},
            "fails": {"executorLabel": "fails", "inputDefinitions": given},
        },
        "root": {
            "inputDefinitions": given,
            "dag": {
                "tasks": {
                    first: _hostile_task("named"),
                    second: _hostile_task("fails", dependentTasks=[first], retryPolicy={"maxRetryCount": 1}),
                    third: _hostile_task("fails", triggerPolicy={"condition": "'a' == '<img src=x>'"}),
                }
            },
        },
    }


def _hostile_task(component: str, **more: Any) -> dict[str, Any]:
    inputs = {"parameters": {NAME: {"componentInputParameter": NAME}}}
    return {"taskInfo": {"name": TASK_NAME}, "componentRef": {"name": component}, "inputs": inputs, **more}


def hostile(console: Console) -> dict[str, str]:
    """Resource names of one of each thing there is, all of them called what nobody should be.

    Returns:
        By what they are: `first` and `second` are runs of one pipeline.
    """
    spec = hostile_pipeline()

    def job(value: str) -> dict[str, Any]:
        config = {"gcsOutputDirectory": "gs://bucket/root", "parameterValues": {NAME: value}}
        return {"displayName": NAME, "pipelineSpec": spec, "runtimeConfig": config}

    found = {}
    for id, value in (("first", NAME), ("second", f"{NAME} again")):
        found[id] = str(console.call(f"{PARENT}/pipelineJobs?pipelineJobId=hostile-{id}", job(value))["name"])
    request = {"parent": PARENT.removeprefix("v1/"), "pipelineJob": job(NAME)}
    cron = {"displayName": NAME, "cron": "0 3 1 1 *", "maxConcurrentRunCount": "1"}
    found["schedule"] = console.call(f"{PARENT}/schedules", {**cron, "createPipelineJobRequest": request})["name"]
    found["endpoint"] = console.deploy(NAME, finder())
    model = found["model"] = console.call(f"v1/{found['endpoint']}")["deployedModels"][0]["model"]
    evaluation = {"displayName": NAME, "metrics": {NAME: NAME, "accuracy": 0.5}}
    console.call(f"v1/{model}@1/evaluations:import", {"modelEvaluation": evaluation})
    script = 'echo "$0"; echo "{\\"global_step\\": 1, \\"timestamp\\": 1, \\"loss\\": 1}" >> "$CLOUD_ML_HP_METRIC_FILE"'
    container = {"imageUri": NAME, "command": ["sh", "-c", script, NAME]}
    pool = {"containerSpec": container, "replicaCount": 1, "machineSpec": {"machineType": "n1-standard-4"}}
    parameter = {"parameterId": NAME, "categoricalValueSpec": {"values": [NAME]}}
    study = {"metrics": [{"metricId": "loss", "goal": "MINIMIZE"}], "parameters": [parameter]}
    trials = {"displayName": NAME, "maxTrialCount": 1, "parallelTrialCount": 1, "studySpec": study}
    body = {**trials, "trialJobSpec": {"workerPoolSpecs": [pool]}}
    found["tuning"] = console.call(f"{PARENT}/hyperparameterTuningJobs", body)["name"]
    found["trial"] = finished(console, found["tuning"])["trials"][0]["customJob"]
    for id in ("first", "second"):
        tasks = finished(console, found[id])["jobDetail"]["taskDetails"]
    (found["artifact"],) = (each["artifacts"][0]["name"] for task in tasks for each in task.get("outputs", {}).values())
    noted = {"displayName": NAME, "schemaTitle": "system.Run", "state": "COMPLETE", "metadata": {NAME: NAME}}
    executions = f"v1/{found['artifact'].rpartition('/artifacts/')[0]}/executions?executionId=hostile"
    found["execution"] = console.call(executions, noted)["name"]
    events = {"events": [{"artifact": found["artifact"], "type": 1}]}
    console.call(f"v1/{found['execution']}:addExecutionEvents", events)
    return found


def finished(console: Console, name: str) -> dict[str, Any]:
    """A job once it has ended."""
    while (job := console.call(f"v1/{name}"))["state"] not in FINISHED:
        time.sleep(0.1)
    return job


# A trial: the best is where both parameters are small; a slow one is stopped early.
TRIAL = r"""
import json, os, sys, time
flags = dict(each.removeprefix("--").split("=") for each in sys.argv[1:] if "=" in each)
bad = abs(float(flags["rate"]) - 0.01) * 3 + {"small": 0.0, "large": 0.2, "huge": 0.4}[flags["size"]]
if flags["size"] == "huge" and float(flags["rate"]) > 0.05:
    sys.exit("this network is too large")
for step in range(1, 6):
    entry = {"global_step": step, "timestamp": time.time(), "loss": bad + 1 / step}
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "a") as file:
        file.write(json.dumps(entry) + "\n")
    print("step", step, flush=True)
    time.sleep(0.5 if bad > 0.25 else 0.05)
"""


def tune(console: Console, trials: int = 8) -> str:
    """Begin a tuning job of tiny trials; returns its resource name."""
    double = {"parameterId": "rate", "doubleValueSpec": {"minValue": 0.001, "maxValue": 0.1}, "scaleType": 2}
    choice = {"parameterId": "size", "categoricalValueSpec": {"values": ["small", "large", "huge"]}}
    container = {"imageUri": "example.test/trial:1", "command": [sys.executable, "-c", TRIAL]}
    pool = {"containerSpec": container, "replicaCount": 1, "machineSpec": {"machineType": "n1-standard-4"}}
    body = {
        "displayName": "search",
        "maxTrialCount": trials,
        "parallelTrialCount": 2,
        "maxFailedTrialCount": trials,
        "studySpec": {
            "metrics": [{"metricId": "loss", "goal": "MINIMIZE"}],
            "parameters": [double, choice],
            "algorithm": "RANDOM_SEARCH",
            "medianAutomatedStoppingSpec": {"useElapsedDuration": False},
        },
        "trialJobSpec": {"workerPoolSpecs": [pool]},
    }
    return str(console.call(f"{PARENT}/hyperparameterTuningJobs", body)["name"])


# Says what it was sent; finds two things in any picture, one of them unsure.
FINDER = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if any(instance == {"fail": True} for instance in body["instances"]):
            return self.answer(400, {"error": "this one fails"})
        found = {"detection_boxes": [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 0.9, 0.95], [0, 0, 1, 1]],
                 "detection_scores": [0.91, 0.55, 0.1], "detection_class_names": ["<b>cat</b>", "dog", "dog"]}
        echo = {"keys": [sorted(each) if isinstance(each, dict) else each for each in body["instances"]],
                "parameters": body.get("parameters")}
        seen = any(isinstance(each, dict) and "bytes_inputs" in each for each in body["instances"])
        self.answer(200, {"predictions": [found if seen else echo for _ in body["instances"]]})

    def answer(self, status, said):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""


def finder() -> dict[str, Any]:
    """The container of a model that finds things."""
    return {"imageUri": "example.test/finder:1", "command": [sys.executable, "-c", FINDER]}
