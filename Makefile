# make demo    environment + the default experiment            make check   the fast half of the tests, with all linters
# make test    environment + linters + the whole test suite    make bench   speed of this machine, as ratios
# make faults  kills the demo at random points, compares bits
# make audit  writes docs/audit.md from its published tables and findings
# make test-slurm  installs SLURM where it may, and runs experiments on it
#
# Everything lives in .venv; a change of requirements.lock or pyproject.toml renews it in the same call.

SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export UV_COMPILE_BYTECODE := 1
export UV_PROJECT_ENVIRONMENT := .venv
unexport PYTHONDONTWRITEBYTECODE

READY := .venv/.ready
PEERS := .venv/.peers
PYTEST := python -m pytest -q -n 2 --dist worksteal -m "not slurm"

.PHONY: audit demo test test-slurm check lint bench faults env lock catalogue golden clean

demo: $(READY)
	snakemake --cores all

test: lint
	$(PYTEST)

check: lint
	$(PYTEST) -m "not slurm and not slow"

# About 10 minutes. As root of a machine with apt-get it installs slurm-wlm and munge; elsewhere the tests say why they are skipped.
test-slurm: $(READY)
	tests/slurm/install.sh
	python -m pytest -q -rs -m slurm tests/slurm

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check --compact-diff Snakefile workflow
	codespell

# About 40 minutes on 2 cores. BENCH="--photographs FOLDER" takes real photographs, BENCH="--only pack dag" some of the benchmarks.
bench: $(PEERS)
	python -m benchmarks $(BENCH)

# torchdistill, to compare with, lies in a folder of its own that only its benchmark's process looks into: the project must not depend on it, and its
# requirements must not move the locked versions, with which it is run (--no-deps). Without it (no network) the benchmark says why it is missing.
$(PEERS): benchmarks/peers.lock $(READY)
	@rm -rf .venv/peers
	@uv pip install --quiet --no-deps --require-hashes --target .venv/peers --requirement benchmarks/peers.lock 2> .venv/peers.log \
		&& touch $@ || echo "note: torchdistill cannot be installed (.venv/peers.log says why); its benchmark is left out"

# About 25 minutes on 2 cores: 54 kills of the demo at random points.
faults: $(READY)
	python tests/faults/campaign.py --config config/demo.yaml --rounds 3 --write docs/reliability.md

env: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; say make PYTHON=python3.11"; exit 2; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@command -v uv >/dev/null || .venv/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=.venv uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=.venv uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Newest versions that pyproject.toml allows, with hashes, for every platform; names no package index.
lock: $(READY)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
		--extra dev --extra cluster --constraint containers/limits.txt --custom-compile-command "make lock" \
		--output-file requirements.lock pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-deps \
		--custom-compile-command "make lock" --output-file benchmarks/peers.lock benchmarks/peers.in
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --constraint requirements.lock \
		--custom-compile-command "make lock" --output-file containers/kubernetes.lock containers/kubernetes.in

AUDITED := docs/results/audit-headline docs/results/audit docs/results/audit-miniplaces docs/results/audit-transfer

audit: $(READY)
	dctkd audit document $(AUDITED) --to docs/audit.md

catalogue: $(READY)
	dctkd methods sync --docs docs/methods.md

# After a change of bits that a RESULTS_VERSION announces: records the new ones for this machine's platform.
golden: $(READY)
	UPDATE_GOLDEN=1 python -m pytest -q tests/golden

clean:
	rm -rf .venv .snakemake results .pytest_cache .mypy_cache .ruff_cache build *.egg-info
