PYTHON ?= python3
PY := .venv/bin/python
OUT ?= results/demo
READY := .venv/ready
WORKERS ?= --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: demo test test-slow lint bench docs env clean

demo: $(READY)
	$(PY) scripts/simulate_screen.py --out $(OUT)
	$(PY) scripts/fit_hierarchy.py $(OUT)/screen.h5ad --guide-map $(OUT)/guide_map.csv --out $(OUT)/fit
	$(PY) scripts/score_daywise.py $(OUT)/fit/gene_daywise_for_mash.csv $(OUT)/truth.csv
	$(PY) scripts/call_hits.py $(OUT)/fit --out $(OUT)/hits --truth $(OUT)/truth.csv
	@echo "Hits, strongest first: $(OUT)/hits/hits.csv"
	@echo "Effects and standard errors for mashr: $(OUT)/fit/gene_daywise_for_mash.csv"
	@echo "Reports, to open in a browser: $(OUT)/fit/report.html and $(OUT)/hits/report.html"

test: $(READY)
	$(PY) -m pytest $(WORKERS)

test-slow: $(READY)
	$(PY) -m pytest -m slow $(WORKERS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m mypy --strict --config-file= --ignore-missing-imports --follow-imports=silent --cache-dir=.mypy_cache/strict tests/typed

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
