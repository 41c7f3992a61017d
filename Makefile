# `make serve` and `make test` do all the set-up; `make help` lists the rest.
# Works with GNU make 3.81 (macOS) and later, and needs nothing but Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
SETUP := $(BIN)/python tools/setup.py
# What MLX computes with on Linux: cpu, cuda12 or cuda13.
BACKEND :=
PIP := $(BIN)/python -m pip --disable-pip-version-check install

# The newest of the Pythons that mlxd is tested with; else whatever `python3` is, if new enough.
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 python)
FIND_PYTHON = for python in $(CANDIDATES); do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then break; fi; \
	python=""; done

.PHONY: help serve install uninstall wheel test test-fast check bench soak screenshots coverage clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: ## Start the server with the demo model (PORT=8484, ARGS="--log-level debug")
	@# What would end it after minutes is looked at first.
	@$(FIND_PYTHON); [ -z "$$python" ] || "$$python" tools/setup.py check \
		"$(or $(PORT),$(patsubst --port=%,%,$(filter --port=%,$(subst --port ,--port=,$(ARGS)))))"
	@$(MAKE) --no-print-directory $(VENV)/.installed
	@$(if $(BACKEND),$(SETUP) backend $(BACKEND))
	@$(SETUP) run "preparing the configuration" sh -c \
		"! $(BIN)/mlxd config show 2>/dev/null | grep -q '^# no file' || $(BIN)/mlxd init"
	@if $(BIN)/mlxd config show 2>/dev/null | grep -q 'source = "demo"'; then $(BIN)/mlxd pull demo; fi
	@echo "starting the server"
	@exec $(BIN)/mlxd serve $(if $(PORT),--port $(PORT)) $(ARGS)

install: $(VENV)/.installed ## Put mlxd on your PATH (with uv or pipx if you have one, else a link)
	@$(SETUP) install

uninstall: ## Take mlxd from your PATH again (not your models or mlxd.toml)
	@$(FIND_PYTHON); "$$python" tools/setup.py uninstall

wheel: $(VENV)/.installed ## Make dist/mlxd-….whl, which uv tool install and pipx install take
	@$(SETUP) run "making the wheel" $(BIN)/python -m pip wheel -q --no-deps --wheel-dir dist .
	@ls dist/mlxd-*.whl

# Three at a time keep two cores busy: tests of processes wait. A file stays in one process, as its
# tests share what is dear to make. ARGS="-n 0 --pdb" for one.
test: $(VENV)/.installed-dev ## Run the whole test suite (ARGS="-k chat")
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

test-fast: $(VENV)/.installed-dev ## Run the tests that need no model, no process, no vendor's client, and are quick
	@$(BIN)/python -m pytest -n auto --dist loadfile \
		-m "not mlx and not process and not client and not thorough" \
		tests/kernel tests/engine tests/api $(ARGS)

check: $(VENV)/.installed-dev ## Lint, formatting, types, architecture
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_names.py

bench: $(VENV)/.installed ## Measure against raw mlx-lm and mlx_lm.server (BENCH="raw --rounds 3")
	@$(BIN)/mlxd pull demo
	@$(BIN)/python -m bench $(BENCH)

soak: $(VENV)/.installed-dev ## Kill the server under load 300 times, and look for what it promised (SOAK="--cycles 20")
	@$(BIN)/python -m soak $(SOAK)

screenshots: $(VENV)/.installed ## Make the README's pictures anew from a run with the demo model
	@$(BIN)/mlxd pull demo
	@$(BIN)/python -m docs.screenshots $(ARGS)

coverage: $(VENV)/.installed-dev ## Run the fast tests and show what they leave out
	@$(BIN)/coverage run -m pytest -q tests/kernel tests/engine tests/api tests/server
	@$(BIN)/coverage report

clean: ## Remove the virtual environment, caches and builds (not your models or mlxd.toml)
	rm -rf $(VENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find mlxd tests bench soak -name __pycache__ -type d -prune -exec rm -rf {} +

# Made anew when its Python is gone or the checkout was moved; the stamps say what is installed.
ifneq ($(shell test -x $(BIN)/python && cat $(VENV)/.created 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.created
endif

$(VENV)/.created:
	@$(FIND_PYTHON); \
	if [ -z "$$python" ]; then \
		echo "mlxd needs Python 3.11 or newer; tried: $(CANDIDATES)." >&2; \
		echo "Install it (macOS: brew install python; Debian, Ubuntu: apt install python3 python3-venv)" >&2; \
		echo "or name one you have: make serve PYTHON=python3.12" >&2; \
		exit 1; \
	fi; \
	"$$python" tools/setup.py check || exit 1; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$$python can't make a virtual environment. On Debian and Ubuntu: apt install python$$version-venv" >&2; \
		exit 1; \
	fi; \
	rm -rf $(VENV) && "$$python" tools/setup.py run "creating $(VENV) with $$("$$python" --version)" \
		"$$python" -m venv $(VENV)
	@echo "$(CURDIR)" > $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@$(SETUP) run "installing mlxd into $(VENV), a few minutes the first time" $(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.created
	@$(SETUP) run "installing mlxd and its test tools into $(VENV)" $(PIP) -e '.[dev]'
	@touch $(VENV)/.installed $@
