PYTHON ?= python3
PY := .venv/bin/python
OUT ?= results/demo
READY := .venv/ready

.PHONY: demo test test-slow lint bench docs env clean

demo: $(READY)
	$(PY) scripts/simulate_screen.py --out $(OUT)
	$(PY) scripts/fit_hierarchy.py $(OUT)/screen.h5ad --guide-map $(OUT)/guide_map.csv --out $(OUT)/fit
	$(PY) scripts/score_daywise.py $(OUT)/fit/gene_daywise_for_mash.csv $(OUT)/truth.csv
	@echo "Effects and standard errors for mashr: $(OUT)/fit/gene_daywise_for_mash.csv"
	@echo "The report, for a browser: $(OUT)/fit/report.html"

test: $(READY)
	$(PY) -m pytest

test-slow: $(READY)
	$(PY) -m pytest -m slow

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(READY)
	$(PY) benchmarks/run_all.py

docs: $(READY)
	rm -rf docs/api/generated
	$(PY) -m sphinx -W --keep-going -n -q -b html docs docs/_build/html
	@echo "The site: docs/_build/html/index.html"

env: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf .venv results build docs/_build docs/api/generated *.egg-info
