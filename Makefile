# make demo | test | lint | clean: each creates .venv first where it is missing.
SHELL := bash
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# One test or rule is one thread: two of them on two cores are faster than threads inside.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo demo-models test test-all upstream-test upstream-test-gears upstream-test-scgpt
.PHONY: upstream-test-sources upstream-test-submission bench check-demo lint docs envs clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo   the whole pipeline on simulated data -> results/eval/summary.csv, results/report.html,"
	@echo "            and ways to load cells, compared -> results/loader/summary.csv"
	@echo "make demo-models  one small run of every pretraining model -> results/pretrain/comparison.csv"
	@echo "make test   the test suite (make test-all: the slow ones too)"
	@echo "make upstream-test  our files in the real cell-gears, scgpt and the three below (12 GB, into .venvs/);"
	@echo "            make upstream-test-gears: cell-gears only (1.7 GB)"
	@echo "            make upstream-test-scgpt: scgpt alone, in our own Python (1 MB)"
	@echo "            make upstream-test-sources: CELLxGENE Census and LaminDB (2 GB)"
	@echo "            make upstream-test-submission: cell-eval (1.2 GB)"
	@echo "make env NAME=census  a venv of its own, for rules that need one: gears, scgpt, census, lamindb, cell_eval"
	@echo "make bench  what we take beside our peers, as a table (make bench NAME=convert: one)"
	@echo "make gpu-check  attention, the loader and training on this machine's GPU, as a table"
	@echo "make lint   ruff, snakefmt, snakemake --lint, codespell"
	@echo "make docs   config/schema.json and the key table of config/README.md, from the models"
	@echo "make envs   envs/*.yaml, pinned as in requirements.lock"
	@echo "make clean  remove .venv, .venvs, results and caches"

# The stamp holds the lock file it was installed from, so that a touch installs nothing.
define install
@cmp -s $< $@ || { \
  base=$$($(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable)); sys.exit(sys.version_info[:2] != (3, 11))') || \
    { echo "error: $(PYTHON) is not Python 3.11; name one: make PYTHON=/path/to/python3.11"; exit 1; }; \
  echo "installing $< into $(@D) (minutes, once)"; \
  $$base -m venv --without-pip --clear $(@D) && \
  $$base -m pip --python $(@D)/bin/python --disable-pip-version-check \
    install --quiet $(INSTALL) -r $< && \
  cp $< $@; }
@touch $@
endef

.venv/installed.lock: requirements.lock
	$(install)

# Environments that cannot be one with ours: gears, scgpt, census, lamindb, cell_eval.
.venvs/%/installed.lock: tests/upstream/%.txt
	$(install)

# For our own Python, which has what scgpt needs in other versions, or can do without it.
.venvs/scgpt-alone/installed.lock: INSTALL := --no-deps

.PHONY: env
env: .venvs/$(or $(NAME),NAME)/installed.lock

DEMO := results/eval/summary.csv results/loader/summary.csv

# On a terminal with a progress bar; into a file or a pipe Snakemake's own log says more.
demo: .venv/installed.lock
	@bar=; if [ -t 1 ]; then bar="--logger rich"; fi; set -x; \
	  snakemake --profile profiles/demo $(DEMO) $$bar
	@$(MAKE) --no-print-directory results/report.html
	@python -m scripts.show_summary results/eval/summary.csv
	@echo "summary: results/eval/summary.csv"
	@echo "loading: results/loader/summary.csv"
	@echo "report:  results/report.html"

results/report.html: $(DEMO)
	snakemake --profile profiles/demo $(DEMO) --report results/.report.html
	@mv results/.report.html $@

# Beside the demo's own: every run of config/demo.yaml, compared, and the cells as one of them sees them.
MODELS := results/pretrain/comparison.csv results/plot_embeddings/demo_peaks/demo_human

demo-models: .venv/installed.lock
	snakemake --profile profiles/demo $(DEMO) $(MODELS)
	snakemake --profile profiles/demo $(DEMO) $(MODELS) --report results/.report.html
	@mv results/.report.html results/report.html
	@echo "models:  results/pretrain/comparison.csv"
	@echo "report:  results/report.html"

test: .venv/installed.lock
	$(THREADS) pytest -n 2 -m "not slow and not gpu and not slurm and not upstream"

test-all: .venv/installed.lock
	$(THREADS) pytest -n 2 --durations=40 -m "not gpu and not slurm and not upstream"

# Our files against the real packages, which need older ones than ours and so their own Pythons.
upstream-test: .venv/installed.lock $(patsubst %,.venvs/%/installed.lock,gears scgpt scgpt-alone census lamindb cell_eval)
	$(THREADS) GEARS_PYTHON=.venvs/gears/bin/python SCGPT_PYTHON=.venvs/scgpt/bin/python \
	  CENSUS_PYTHON=.venvs/census/bin/python LAMINDB_PYTHON=.venvs/lamindb/bin/python \
	  CELL_EVAL_PYTHON=.venvs/cell_eval/bin/python pytest -m upstream tests/upstream

# Without scgpt, whose torch 2.3.1 comes with CUDA: 6.5 GB.
upstream-test-gears: .venv/installed.lock .venvs/gears/installed.lock
	$(THREADS) GEARS_PYTHON=.venvs/gears/bin/python \
	  pytest -m upstream tests/upstream --ignore-glob="*/test_scgpt*" \
	  $(patsubst %,--ignore=tests/upstream/test_%.py,census artifacts submissions)

# What needs scgpt only, and runs in our own Python: test_scgpt_*.py.
upstream-test-scgpt: .venv/installed.lock .venvs/scgpt-alone/installed.lock
	$(THREADS) pytest -m upstream tests/upstream/test_scgpt_*.py

# The rules that fetch from the CELLxGENE Census and from LaminDB, offline.
upstream-test-sources: .venv/installed.lock .venvs/census/installed.lock .venvs/lamindb/installed.lock
	$(THREADS) CENSUS_PYTHON=.venvs/census/bin/python LAMINDB_PYTHON=.venvs/lamindb/bin/python \
	  pytest -m upstream tests/upstream/test_census.py tests/upstream/test_artifacts.py

# The rule that packages a submission with the challenge's own tool, from a simulated screen on.
upstream-test-submission: .venv/installed.lock .venvs/cell_eval/installed.lock
	$(THREADS) CELL_EVAL_PYTHON=.venvs/cell_eval/bin/python \
	  pytest -m upstream tests/upstream/test_submissions.py

# NAME=convert, or several names; without one all but full_size, which takes 60 GB of disk.
# tests/benchmarks/__main__.py says which variables name the peers that are not installed here.
bench: .venv/installed.lock $(if $(filter convert% start_up% perturbation_batch%,$(or $(NAME),convert)),.venvs/gears/installed.lock)
	python -m tests.benchmarks $(NAME)

# On a machine with a GPU and a torch that uses it; the table goes to tests/benchmarks/results/.
.PHONY: gpu-check
gpu-check: .venv/installed.lock
	PYTHONPATH=.:workflow python -W ignore -m tests.benchmarks.gpu

# What a finished demo must hold; .ci/run calls it after make demo and make demo-models.
check-demo: .venv/installed.lock
	pytest -q tests/check_demo.py

lint: .venv/installed.lock
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	snakemake --lint
	codespell

docs: .venv/installed.lock
	python -m scripts.document_config

envs: .venv/installed.lock
	python -m scripts.pin_envs

clean:
	rm -rf .venv .venvs results .snakemake .pytest_cache .ruff_cache .hypothesis
	find config scripts tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +
