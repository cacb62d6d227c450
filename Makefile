# Saliency Sanity. `make` alone lists the targets.

PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= quick
JOBS    ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
# Workers for tests, one more than cores: some tests wait, for a cluster or a kernel.
WORKERS ?= $(shell expr $(JOBS) + 1)
PORT    ?= 8000
GRID    ?= grids/example.yaml
# Further options of JupyterLab, such as --allow-root in a container.
LAB     ?=
EXTRAS  := book,workflow,cluster,test,lint,peers

BIN   := $(VENV)/bin
READY := $(VENV)/.ready
SITE  := build/html/index.html
STRIP := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill cell.metadata.papermill cell.metadata.execution metadata.language_info.version"

SNAKEMAKE := $(BIN)/snakemake --snakefile workflow/Snakefile --cores $(JOBS) --config profile=$(PROFILE)
# Only one workflow at a time in this folder; the lock ends with the process, also a killed one.
ALONE := $(if $(shell flock --version 2>/dev/null),flock --nonblock --conflict-exit-code 75 build/.lock)

.DEFAULT_GOAL := help
.PHONY: help install book quick paper smoke shots grid test differences lint format bench coverage lab serve clean distclean

help: ## this list
	@echo "make TARGET [PROFILE=quick|paper|smoke] [JOBS=$(JOBS)] [GRID=$(GRID)] [PYTHON=$(PYTHON)]"
	@awk -F ':.*## ' '/^[a-z ]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(READY) ## set up .venv (the other targets do it when it is needed)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: '$(PYTHON)' is missing or older than Python 3.11."; \
		echo "       Install Python 3.11 or newer, or say which one: make PYTHON=/path/to/python3.12"; \
		exit 1; } >&2
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "error: '$(PYTHON)' cannot make virtual environments."; \
		echo "       On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; } >&2
	@echo "Setting up $(VENV): some minutes, about 2 GB."
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c requirements.lock -e ".[$(EXTRAS)]"
	@touch $@

book: $(READY) ## run the notebooks in PROFILE and build the site
	@mkdir -p build
	@$(ALONE) $(MAKE) --no-print-directory site || { code=$$?; \
		[ $$code -ne 75 ] || echo "error: another 'make book' is running in this folder." >&2; \
		exit $$code; }
	@echo "The book (profile $(PROFILE)) is at $(SITE)"

quick paper smoke: ## `make book` in this profile
	@$(MAKE) --no-print-directory book PROFILE=$@

.PHONY: site
site:
	@if [ -n "$$(ls .snakemake/locks 2>/dev/null)" ]; then \
		echo "An earlier run was cut off: going on from what it had finished."; \
		$(SNAKEMAKE) --quiet all --unlock; fi
	@$(SNAKEMAKE) --quiet host rules reason progress

shots: $(READY) ## screenshots of the built site: wide and narrow, light and dark
	@$(BIN)/python workflow/shots.py

grid: $(READY) ## run the cells of GRID that are missing or outdated, and join their tables
	@$(BIN)/saliency-sanity grid $(GRID) --cores $(JOBS)

test: $(READY) ## run every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

differences: $(READY) ## see whether other libraries still do what the book says of them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[peers,bench]"
	$(BIN)/python -m pytest tests/outside

lint: $(READY) ## check style, formatting, and that no notebook holds outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@set -- notebooks/*.ipynb; [ ! -e "$$1" ] || $(STRIP) --verify "$$@"

format: $(READY) ## fix style and formatting, strip notebook outputs, write notebooks to launch
	$(BIN)/saliency-sanity launch
	$(BIN)/ruff format --quiet launch
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@set -- notebooks/*.ipynb; [ ! -e "$$1" ] || $(STRIP) "$$@"

bench: $(READY) ## time methods, metrics and the cascade side by side
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[bench]"
	$(BIN)/python -m benchmarks

coverage: $(READY) ## simulate how often intervals hold what is true; ten minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m simulations.coverage

lab: $(READY) ## open the notebooks in JupyterLab
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[lab]"
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks $(LAB)

# The port is tried before the server is, whose own words for a taken one are a traceback.
serve: ## serve the built site at http://localhost:PORT
	@[ -e $(SITE) ] || { echo "error: no site yet; run 'make book' first" >&2; exit 1; }
	@$(PYTHON) -c 'import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1])))' \
		'$(PORT)' 2>/dev/null || { \
		echo "error: cannot serve on port $(PORT): it is taken, or no port that you may use." >&2; \
		echo "       Choose another: make serve PORT=8001" >&2; exit 1; }
	@echo "The book is at http://localhost:$(PORT)/ until you press Ctrl+C"
	@$(PYTHON) -m http.server '$(PORT)' --bind 127.0.0.1 --directory $(dir $(SITE))

clean: ## remove what was built; keep results and the environment
	rm -rf build .snakemake .pytest_cache .ruff_cache .import_linter_cache

distclean: clean ## remove results and the environment too
	rm -rf results $(VENV) lib/*.egg-info
