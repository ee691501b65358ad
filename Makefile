# Vertex AI pipelines, run on this machine by localvertex or on Google Cloud. `make help` lists the targets.

PIPELINE ?= crnn
TARGET   ?= local
CACHE    ?= 1
DATA     ?=
ARGS     ?=
INPUT    ?=
ACCELERATOR ?=
KIND     ?=
COUNT    ?=
SEED     ?= 0
OUT      ?= request.json
PLAN     ?=
IMAGE    ?=
DEVICE   ?= cpu
PUSH     ?=
DIRTY    ?=
BUILDER  ?= docker
# What localvertex runs containers with: processes that stand in for them, or Docker.
ifneq ($(RUNNER),)
export LOCALVERTEX_RUNNER := $(RUNNER)
endif

# Python keeps what it has compiled, whatever this machine's default: frameworks load three times as fast from then on.
export PYTHONDONTWRITEBYTECODE :=

PYTHON   ?= python3.11 python3.12 python3.13 python3
VENV     := .venv
RUN      := $(VENV)/bin/python
# The environment is named by what defines it, so a changed lock file makes it anew and an unchanged one never does.
READY    := $(VENV)/ready-$(shell cat requirements.lock setup.cfg | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup lock sample compile run predict request scale lineage rollback logs schedule schedules cost prune images audit test test-systems test-releases test-docker lint bench soak console status stop clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PIPELINE=crnn          which system              DATA=/some/folder   train on your own data"
	@echo "  PIPELINE=crnn_monitor  its requests, watched"
	@echo "  TARGET=local|vertex    this machine or the cloud ARGS=\"max_trials=2 train_epochs=5\"  override parameters"
	@echo "  CACHE=0                run every stage again     INPUT=word.png      what make predict reads"
	@echo "  ACCELERATOR=cpu|gpu|tpu   what to train on       ACCELERATOR=gpu,tpu   both, and compare (ddsm)"
	@echo "  KIND=words|digits COUNT=n SEED=n                 what make sample writes"
	@echo "  RUNNER=process|docker  what localvertex runs containers with, for make run (default: as it runs already)"
	@echo "  BUILDER=docker|cloud   what builds images that TARGET=vertex lacks"

setup: $(READY) ## Make the Python environment (every other target does it when needed)
	@echo "Environment ready. Next: make run PIPELINE=$(PIPELINE)"

$(READY): | requirements.lock setup.cfg
	@echo "Installing the pinned environment into $(VENV), once…"
	@test -x $(RUN) || for python in $(PYTHON); do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exec $$python -m venv $(VENV); \
	done; test -x $(RUN) \
	  || { echo "error: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(RUN) -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip sync --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/ready-* && touch $@

lock: ## Resolve setup.cfg again into requirements.lock, and each image's requirements within it
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header setup.cfg --output-file requirements.lock
	@for wanted in images/*/requirements*.in; do \
	  $(VENV)/bin/uv pip compile --quiet --python-platform x86_64-manylinux_2_31 --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header --constraint requirements.lock \
	    "$$wanted" --output-file "$${wanted%.in}.txt" || exit; \
	done

sample: $(READY) ## Write sample data for PIPELINE into data/ (KIND, COUNT, SEED)
	@$(RUN) -m images.trainer.sample --system=$(PIPELINE) $(if $(KIND),--kind=$(KIND)) --seed=$(SEED) --out=data/$(PIPELINE) $(if $(COUNT),--count=$(COUNT))

compile: $(READY) ## Compile PIPELINE to build/PIPELINE.json
	@$(RUN) -m pipelines compile --pipeline $(PIPELINE)

run: $(READY) ## Run PIPELINE end to end and watch it (TARGET, DATA, ARGS, CACHE, ACCELERATOR)
	@$(RUN) -m pipelines run --pipeline $(PIPELINE) --target $(TARGET) --data "$(DATA)" --args "$(ARGS)" --cache $(CACHE) \
	  --accelerator "$(ACCELERATOR)" \
	  --builder $(BUILDER) $(if $(DIRTY),--dirty)

predict: $(READY) ## Ask the deployed endpoint of PIPELINE about INPUT: a picture, or instances in .json, .jsonl, .csv
	@$(RUN) -m pipelines predict --pipeline $(PIPELINE) --target $(TARGET) --input "$(INPUT)"

request: $(READY) ## Write request.json from PIPELINE's test examples: an instance a line (OUT)
	@$(RUN) -m pipelines request --pipeline $(PIPELINE) --target $(TARGET) --out "$(OUT)"

scale: $(READY) ## Train as PIPELINE's last run did, on 1 and on 2 workers; compare time and cost
	@$(RUN) -m pipelines scale --pipeline $(PIPELINE) --target $(TARGET)

lineage: $(READY) ## Print the tree from PIPELINE's endpoint back to its source data
	@$(RUN) -m pipelines lineage --pipeline $(PIPELINE) --target $(TARGET)

rollback: $(READY) ## Put the version of PIPELINE's model that served before back in its place
	@$(RUN) -m pipelines rollback --pipeline $(PIPELINE) --target $(TARGET)

logs: $(READY) ## Print the end of the log of TASK in the run JOB, as a failed run names them
	@$(RUN) -m pipelines logs --run "$(JOB)" --task "$(TASK)" --target $(TARGET)

schedule: $(READY) ## Bring PIPELINE's schedules to the service as the settings say them (PLAN=1: only print the plan)
	@$(RUN) -m pipelines schedule --pipeline $(PIPELINE) --target $(TARGET) $(if $(filter-out 0,$(PLAN)),--plan)

schedules: $(READY) ## List all schedules with their next and last runs
	@$(RUN) -m pipelines schedules --target $(TARGET)

cost: $(READY) ## Estimate device-hours and cost of a run of PIPELINE (ARGS)
	@$(RUN) -m pipelines cost --pipeline $(PIPELINE) --target $(TARGET) --args "$(ARGS)"

prune: $(READY) ## Remove what of PIPELINE is old and nothing in use leans on (PLAN=1: only print the plan)
	@$(RUN) -m pipelines prune --pipeline $(PIPELINE) --target $(TARGET) $(if $(filter-out 0,$(PLAN)),--plan)

images: $(READY) ## Build the container images that are missing (IMAGE, DEVICE, PUSH=1, DIRTY=1)
	@$(RUN) -m pipelines images --image "$(IMAGE)" --device $(DEVICE) $(if $(PUSH),--push) $(if $(DIRTY),--dirty)

audit: $(READY) ## Look for known vulnerabilities in what the images hold
	@$(RUN) -m pipelines audit

TESTS = $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(READY) ## Run the tests: all of the code, and crnn end to end (13 minutes)
	@$(TESTS) --ignore=tests/e2e/systems --ignore=tests/e2e/releases

test-systems: $(READY) ## Take each other system, and one that a test adds, from its sample to an endpoint that answers
	@$(TESTS) tests/e2e/systems

test-releases: $(READY) ## Take each system through its releases while somebody predicts (about half an hour)
	@$(TESTS) tests/e2e/releases

test-docker: $(READY) ## Build the images, and run pipelines in their containers (skips where no engine can start)
	@$(RUN) -m tests.docker

lint: $(READY) ## Check style (ruff) and types (mypy)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

bench: $(READY) ## Measure speed, as ratios within one run (about half an hour)
	@$(RUN) -m tests.bench

soak: $(READY) ## Run 100 pipelines on localvertex while it, their tasks and their client are killed
	@SOAK_PIPELINES=100 $(RUN) -m pytest tests/soak

console: $(READY) ## Open localvertex's console in a browser: runs, lineage, models, endpoints, and try one
	@$(RUN) -m localvertex console

status: $(READY) ## Say whether localvertex runs, and where
	@$(RUN) -m localvertex status

stop: $(READY) ## Stop localvertex and what it serves (its state stays)
	@$(RUN) -m localvertex stop

clean: ## Remove compiled pipelines, sample data, localvertex's state and caches (not the environment)
	@if [ -x $(RUN) ] && [ -d .localvertex ]; then $(RUN) -m localvertex stop; fi
	@rm -rf build data request.json request.instances.json .localvertex .pytest_cache .mypy_cache .ruff_cache .hypothesis .grimp_cache
	@echo "Clean. Next: make run PIPELINE=$(PIPELINE)"
