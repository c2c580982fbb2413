# Each target installs what it needs in .venv; `make help` lists the targets.
# For GNU make 3.81 and later, and any POSIX shell.

# The versions that this checkout is tested with. TORCH='torch torchvision' installs the
# newest; any pip arguments work here, such as another --index-url.
TORCH ?= torch==2.14.1 torchvision==0.29.1

# The Python for .venv, if not the first of python3, python3.13, ...
PYTHON ?=

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help app lab test check fuzz bench gpu examples figures pictures clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

app: .venv/installed ## start the app and open it in a browser, if there is one
	@exec $(BIN)/workbench app

lab: .venv/installed-lab ## the same in JupyterLab
	@exec $(BIN)/workbench app --lab

test: check ## run check, then every test that needs no accelerator
	$(BIN)/python tests/chromium.py
	$(BIN)/python -m pytest -m "not (gpu or browser)" -n logical --maxprocesses 4 --dist worksteal
	$(BIN)/python -m pytest -m "browser and not gpu"

check: .venv/installed-dev node_modules/installed ## ruff, mypy, import-linter; tsc, Biome and node --test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/node node_modules/typescript/bin/tsc
	$(BIN)/node node_modules/@biomejs/biome/bin/biome check --error-on-warnings
	$(BIN)/node --test tests/javascript/*.test.js

# For example FUZZ='--num 1000'; the full run takes about an hour on one core.
FUZZ ?=

fuzz: .venv/installed-dev ## open 10,000 damaged and 10,000 forged studies and checkpoints
	$(BIN)/python -m tests.fuzz.run $(FUZZ)

# For example BENCH='--rows g hess'; see python -m tests.benchmarks --help.
BENCH ?=

bench: .venv/installed-dev ## benchmark against other libraries; BENCH='--rows g hess' for some rows, BENCH=--long for all
	$(BIN)/python -m tests.benchmarks --out bench.json $(BENCH)

gpu: .venv/installed-dev ## the same on a CUDA device, and the tests that need one
	$(BIN)/python -m tests.benchmarks --device cuda --out bench-cuda.json $(BENCH)
	$(BIN)/python -m pytest -m gpu

examples: .venv/installed-dev ## train and measure the shipped examples again
	$(BIN)/python -m tests.examples

# FULL=1 trains and measures everything again, below .figures, which takes hours; stopped, it
# resumes. The data sets must be below $WORKBENCH_DATA.
FULL ?=

figures: .venv/installed-dev ## draw the figures of docs/figures from their numbers; FULL=1 runs their sweeps again
	$(if $(FULL),$(BIN)/python -m tests.figures,$(BIN)/workbench figure all --out docs/figures)
	rm -f docs/figures/*.html

pictures: .venv/installed-dev ## take the README's screenshots of the real page
	$(BIN)/python tests/chromium.py
	$(BIN)/python -m tests.browser.pictures

clean: ## remove .venv and everything else these targets created
	rm -rf .venv node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Stamp files of what has been installed; renewed when pyproject.toml changes.

.venv/made:
	@found=; for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make: no Python 3.11 or later found on the PATH; install one from python.org" \
	    "or your system's packages, or give its path: make app PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "Making .venv with $$found"; \
	"$$found" -m venv .venv || { \
	  echo "make: $$found cannot create a virtual environment; on Debian and Ubuntu," \
	    "run 'apt install python3-venv'" >&2; exit 1; \
	}
	@touch $@

# torch, torchvision and the rest in one go, so that pip finds versions that fit.
define install
@echo "Installing hessian-workbench$(1) into .venv; this takes minutes the first time"
@torch="$(TORCH)"; \
$(BIN)/python -m pip install $$torch -e '.$(1)' || { \
  if [ "$(origin TORCH)" != file ]; then exit 1; fi; \
  echo "Installing with $$torch failed; trying again with the newest versions"; \
  $(BIN)/python -m pip install torch torchvision -e '.$(1)'; \
}
@echo "Compiling UMAP for this machine"
@$(BIN)/python -c 'from workbench.jobs.work import warm_up; warm_up().join()'
@touch $@
endef

.venv/installed: .venv/made pyproject.toml
	$(call install,)

.venv/installed-lab: .venv/made pyproject.toml
	$(call install,[lab])
	@touch .venv/installed

.venv/installed-dev: .venv/made pyproject.toml
	$(call install,[dev])
	@touch .venv/installed .venv/installed-lab

# Tools that check the browser part, and a hub's proxy, by npm's lock file. Node itself is in [dev].
node_modules/installed: .venv/installed-dev package.json package-lock.json
	@$(BIN)/npm ci --no-audit --no-fund || { \
	  echo "make: TypeScript and Biome, which check the browser part, could not be" \
	    "installed from npm's registry in the versions of package-lock.json; set" \
	    "another registry (npm config set registry ADDRESS) and try again" >&2; \
	  exit 1; \
	}
	@touch $@
