# The verbs of the project. Everything runs in .venv, which the first verb that needs it creates.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DRIVER ?= posted-v0
SCOPE  ?= tiny
ARGS   ?=
TRACES ?=
OPERATIONS ?= 10000000
BUDGET ?= 8h
STATE  ?= nightly/$(subst /,-,$(DRIVER))

.DEFAULT_GOAL := help
.PHONY: help hunt sweep explore nightly soak detect test replay explain bench fuzz coverage lint clean

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r verb text; do printf '%-14s %s\n' "$$verb" "$$text"; done

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("hvmodel needs Python 3.11 or newer; found %d.%d (set PYTHON=...)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

hunt: $(STAMP) ## search the posted driver (DRIVER=...) for findings; traces go to findings/DRIVER/
	@$(BIN)/hvmodel hunt --driver $(DRIVER) $(ARGS) || [ $$? -eq 1 ]

sweep: $(STAMP) ## run traces of ordinary life (TRACES=...) once for each place and answer of a refusal, on DRIVER=...
	@$(BIN)/hvmodel sweep $(TRACES) --driver $(DRIVER) $(ARGS) || [ $$? -eq 1 ]

explore: $(STAMP) ## try everything within SCOPE=tiny (small, medium or a file) on DRIVER=...: what holds there, shortest traces
	@$(BIN)/hvmodel explore --driver $(DRIVER) --scope $(SCOPE) $(ARGS) || [ $$? -eq 1 ] || [ $$? -eq 3 ]

nightly: $(STAMP) ## search for a night (BUDGET=8h) and say what is new; what is known stays in STATE=nightly/DRIVER
	$(BIN)/hvmodel nightly --driver $(DRIVER) --budget $(BUDGET) --state $(STATE) $(ARGS)

soak: $(STAMP) ## ten million operations on each honest driver, in which nothing may be found
	@for driver in repaired honest-splits honest-whole; do $(BIN)/hvmodel hunt --driver $$driver --operations $(OPERATIONS) $(ARGS) || exit 1; done

detect: $(STAMP) ## measure how soon the defect of each variant is found
	$(BIN)/hvmodel detect $(ARGS)

test: $(STAMP) ## run the tests and the machines
	$(BIN)/python -m pytest -q $(ARGS)

replay: $(STAMP) ## replay one trace: make replay TRACE=findings/posted-v0/NAME.json
	@test -n "$(TRACE)" || { echo "usage: make replay TRACE=findings/DRIVER/NAME.json [ARGS='--all']"; exit 2; }
	@$(BIN)/hvmodel replay "$(TRACE)" $(ARGS) || [ $$? -eq 1 ]

explain: $(STAMP) ## tell the story of one trace: make explain TRACE=findings/posted-v0/NAME.json
	@test -n "$(TRACE)" || { echo "usage: make explain TRACE=findings/DRIVER/NAME.json [ARGS='--format html --out FILE']"; exit 2; }
	@$(BIN)/hvmodel explain "$(TRACE)" $(ARGS) || [ $$? -eq 1 ]

bench: $(STAMP) ## measure speed, memory and how often each operation applies
	$(BIN)/hvmodel bench $(ARGS)

fuzz: $(STAMP) ## two million random hypercalls against the hypervisor model
	$(BIN)/hvmodel fuzz-hypervisor $(ARGS)

coverage: $(STAMP) ## hunt the posted driver and hold the findings against the catalogue
	@mkdir -p findings
	@$(BIN)/hvmodel hunt --out findings/coverage --json findings/coverage-report.json $(ARGS) > findings/coverage.txt || [ $$? -eq 1 ]
	PYTHONPATH=.:tests $(BIN)/python tests/catalogue_coverage.py findings/coverage-report.json

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

clean: ## remove the environment, caches and findings
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info findings
