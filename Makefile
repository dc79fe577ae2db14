# make demo   corpus -> store -> model -> decoder -> a text from an outline, its measures and its picture
# make test   the checks and the tests
# Both make .venv first if it is missing, and do again only what has changed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export LCM_HOME := $(or $(LCM_HOME),artifacts)

CORPUS ?= grimm
OUTLINE ?= experiments/2026-11-demo/outline.md
SEED ?= 0
DEMO ?= $(LCM_HOME)/demo
# SIZE=smoke goes through every step in about a minute, to see that all is in place; what it writes is noise.
SIZE ?= tiny
MODEL_CONFIGS := configs/base.yaml configs/$(SIZE).yaml
DECODER_CONFIGS := configs/decoder.yaml $(if $(filter smoke,$(SIZE)),configs/decoder_smoke.yaml)
WRITE_FLAGS := $(if $(filter smoke,$(SIZE)),--candidates 1)
MEASURE_FLAGS := $(if $(filter smoke,$(SIZE)),--num-sentences 16 --candidates 2,--num-sentences 100)

ifneq ($(words $(LCM_HOME) $(DEMO) $(VENV) $(OUTLINE)),4)
$(error make cannot handle spaces: LCM_HOME "$(LCM_HOME)", DEMO "$(DEMO)", VENV "$(VENV)", OUTLINE "$(OUTLINE)"; use other paths)
endif

# The extra follows the machine. Without a GPU torch is held to its CPU build, for the other one pulls gigabytes of CUDA.
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -m 1 '^GPU ')
EXTRA := $(if $(GPU),gpu,cpu)
FIND_LINKS := $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
ifneq ($(FIND_LINKS),)
export UV_FIND_LINKS ?= $(FIND_LINKS)
endif
LOCAL_TORCH := $(wildcard $(addsuffix /torch-*+cpu-*.whl,$(FIND_LINKS)))
PIN := $(if $(GPU),,-c constraints-cpu.txt)
BACKEND := $(if $(GPU),--torch-backend auto,$(if $(LOCAL_TORCH),,--torch-backend cpu))

comma := ,

.PHONY: demo test check fix install clean
.DELETE_ON_ERROR:
.SUFFIXES:

# install EXTRAS
define install
	@echo "installing concept-lm [$(1)] into $(VENV), about 2 GB"
	@VIRTUAL_ENV=$(VENV) UV_LINK_MODE=copy $(BIN)/uv pip install --compile-bytecode $(BACKEND) $(PIN) -e '.[$(1)]' \
		|| { echo "uv did not manage, trying pip"; $(BIN)/pip install $(PIN) -e '.[$(1)]'; }
	@touch $@
endef

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed, found " \
		+ sys.version.split()[0] + "; say make PYTHON=python3.12, for example")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.installed: pyproject.toml constraints-cpu.txt | $(BIN)/uv
	$(call install,$(EXTRA))

$(VENV)/.installed-dev: pyproject.toml constraints-cpu.txt | $(BIN)/uv
	$(call install,$(EXTRA)$(comma)dev)
	@touch $(VENV)/.installed

install: $(VENV)/.installed

# --- the demo ---------------------------------------------------------------------------------------------------------

# A stamp holds a setting and changes only when the setting does, so that what depends on it is made again just then.
define stamp
	@mkdir -p $(DEMO)
	@echo "$(1)" | cmp -s - $@ || echo "$(1)" > $@
endef

$(DEMO)/.corpus: FORCE
	$(call stamp,$(CORPUS))

$(DEMO)/.size: FORCE
	$(call stamp,$(SIZE))

$(DEMO)/.text: FORCE
	$(call stamp,$(OUTLINE) $(SEED))

FORCE:

# The store notices changed text itself; a corpus that is a file or folder of yours is looked at again when it changes.
$(DEMO)/store/manifest.json: $(DEMO)/.corpus $(wildcard $(CORPUS) $(CORPUS)/*) | $(VENV)/.installed
	$(BIN)/lcm encode $(CORPUS) --out $(DEMO)/store

$(DEMO)/model/done: $(DEMO)/store/manifest.json $(DEMO)/.size $(MODEL_CONFIGS)
	$(BIN)/lcm fit $(addprefix -c ,$(MODEL_CONFIGS)) \
		--data.store $(DEMO)/store --trainer.default_root_dir $(DEMO)/model
	@test -s $(DEMO)/model/best.ckpt && touch $@

$(DEMO)/decoder/done: $(DEMO)/store/manifest.json $(DEMO)/.size $(DECODER_CONFIGS)
	$(BIN)/lcm fit $(addprefix -c ,$(DECODER_CONFIGS)) \
		--data.store $(DEMO)/store --trainer.default_root_dir $(DEMO)/decoder
	@test -s $(DEMO)/decoder/best.ckpt && touch $@

$(DEMO)/text.md: $(OUTLINE) $(DEMO)/.text $(DEMO)/model/done $(DEMO)/decoder/done
	$(BIN)/lcm generate $(OUTLINE) --model $(DEMO)/model/best.ckpt --decoder $(DEMO)/decoder/best.ckpt \
		--seed $(SEED) $(WRITE_FLAGS) --out $@

$(DEMO)/table.md: $(DEMO)/model/done $(DEMO)/decoder/done
	$(BIN)/lcm evaluate $(DEMO)/store --model $(DEMO)/model/best.ckpt --decoder $(DEMO)/decoder/best.ckpt \
		$(MEASURE_FLAGS) --out $@

$(DEMO)/trajectory.png: $(DEMO)/text.md
	$(BIN)/lcm plot $(DEMO)/text.md --store $(DEMO)/store --out $@

demo: $(DEMO)/text.md $(DEMO)/table.md $(DEMO)/trajectory.png
	@printf '\n=== the outline: $(OUTLINE)\n\n'; cat $(OUTLINE)
	@printf '\n=== what was written from it: $(DEMO)/text.md\n\n'; cat $(DEMO)/text.md
	@printf '\n=== measures on held-out documents: $(DEMO)/table.md\n\n'; cat $(DEMO)/table.md
	@printf '\n=== files\n'
	@printf '%-28s %s\n' store $(DEMO)/store/ model $(DEMO)/model/best.ckpt decoder $(DEMO)/decoder/best.ckpt \
		text $(DEMO)/text.md table $(DEMO)/table.md picture $(DEMO)/trajectory.png

# --- development ------------------------------------------------------------------------------------------------------

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check
	$(BIN)/python -m pytest

clean:
	rm -rf $(DEMO)
