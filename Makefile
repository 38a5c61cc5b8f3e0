# The README's commands. Everything is installed into .venv from requirements.lock, hash-checked.
# Works with the make of macOS (3.81) and any /bin/sh.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := mistral_tiny
# e.g. make train NAME=short ARGS="--steps 100"
NAME := $(RUN)
# A first model in minutes; make train STEPS=1500 trains as long as the ladder does.
STEPS := 400
ARGS :=
# Two test processes share the cores: more BLAS threads than cores wait for each other.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: train test soak check bench docs lock clean

train: $(STAMP)
	$(BIN)/mlxt train recipes/$(RUN).toml --name $(NAME) --resume auto --steps $(STEPS) $(ARGS)
	$(BIN)/mlxt generate --run runs/$(NAME) --prompt "ROMEO:" --max-tokens 200 --temp 0.5

test: $(STAMP)
	$(PYTEST)

# Hours: thousands of damaged files, kills and hostile command lines.
soak: $(STAMP)
	$(PYTEST) -m soak
	MLXT_ATTACKS=1000 $(PYTEST) tests/attacks

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/docs.py --check

bench: $(STAMP)
	$(BIN)/python tools/bench_ops.py

docs: $(STAMP)
	$(BIN)/python tools/docs.py

# Runs are a user's work: they are never removed here.
clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache dist build
	find . -name __pycache__ -type d -not -path "./runs/*" -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml tools/find_python.sh
	python=$$(sh tools/find_python.sh) && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

# Needs uv. The corpus comes without its dependencies: only its text is read.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --custom-compile-command "make lock" -q -o requirements.lock
	cat requirements-corpora.txt >> requirements.lock
