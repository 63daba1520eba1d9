# make demo   set up, then find CIFAR-10 images by words
# make test   set up, then run the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Where the shared test data lies, if it does; tests that need it skip otherwise.
export WORDSIGHT_DATA        ?= $(wildcard $(abspath ../shared/data))
export WORDSIGHT_TEST_MODELS ?= $(wildcard $(abspath ../shared/models))
export WORDSIGHT_CIFAR10     ?= $(wildcard $(WORDSIGHT_DATA)/cifar10)

# Environment $(1) with packages $(2): by uv in seconds, or by pip in minutes where uv cannot have them.
define environment
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 || true
	$(call install,$(1),$(2))
endef
install = $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(addprefix --default-index ,$(PIP_INDEX_URL)) $(2) \
	|| $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)

.PHONY: setup demo test test-export test-connect test-cloud lint format types wheel pythons bench bench-full docs reference pictures notebooks starter clean

setup: $(READY)
$(READY): pyproject.toml requirements.txt requirements-dev.txt
	$(call environment,$(VENV),-r requirements-dev.txt)
	$(call install,$(VENV),--no-deps --editable .)
	touch $@

demo: setup
	$(BIN)/wordsight demo

test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The tests of `wordsight export`, in an environment of its own with PyTorch (5 GB).
EXPORT := .venv-export
test-export: $(EXPORT)/.ready
	$(EXPORT)/bin/python -m pytest tests/test_export.py tests/test_thumbnail.py
$(EXPORT)/.ready: pyproject.toml requirements-export.txt
	$(call environment,$(EXPORT),-r requirements-export.txt)
	$(call install,$(EXPORT),--no-deps --editable .)
	touch $@

# The tests beside other libraries (LangChain, Haystack, pandas, ...), in an environment of their own (900 MB).
CONNECT := .venv-connect
test-connect: $(CONNECT)/.ready
	$(CONNECT)/bin/python -m pytest tests/test_adapters.py tests/test_vectors.py tests/test_standard.py tests/test_tables.py
$(CONNECT)/.ready: pyproject.toml requirements-connect.txt
	$(call environment,$(CONNECT),-r requirements-connect.txt)
	$(call install,$(CONNECT),--no-deps --editable .)
	touch $@

# The tests of libraries at URLs, beside a stand-in for S3, of indexing on Ray and of fleets, in an environment of their own.
CLOUD := .venv-cloud
test-cloud: $(CLOUD)/.ready
	$(CLOUD)/bin/python -m pytest tests/test_cloud.py tests/test_cluster.py tests/test_cluster_fleet.py
$(CLOUD)/.ready: pyproject.toml requirements-cloud.txt
	$(call environment,$(CLOUD),-r requirements-cloud.txt)
	$(call install,$(CLOUD),--no-deps --editable .)
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy

wheel: setup
	$(BIN)/python -m build --wheel --outdir dist

# The wheel in an empty environment of every Python from 3.10 that is on this machine.
pythons: wheel
	$(BIN)/python tests/pythons.py dist

bench: setup
	$(BIN)/python -m benchmarks

# All of them, with rclip beside: 45 minutes. 10,000,000 views need 12 GB of disk.
RCLIP := .venv-rclip
bench-full: setup
	$(call environment,$(RCLIP),rclip==3.3.0)
	WORDSIGHT_RCLIP=$(abspath $(RCLIP)/bin/rclip) $(BIN)/python -m benchmarks --full

# The documentation site, in site/. Its tools come on top of the others.
docs: setup
	$(call install,$(VENV),-r requirements-docs.txt)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

reference: setup
	$(BIN)/python docs/cli_reference.py

pictures: setup
	HF_HUB_OFFLINE=1 $(BIN)/python docs/pictures.py

# Runs the notebooks and keeps what they print and draw (one: make notebooks FILES=notebooks/1-*.ipynb).
notebooks: setup
	HF_HUB_OFFLINE=1 $(BIN)/python notebooks/execute.py $(FILES)

# Trains the starter CLIP again; needs WORDSIGHT_DATA and WordNet (Debian: wordnet-base). Three hours on
# two cores; with a GPU ARGS="--device cuda". ARGS=--quick tries every step in minutes.
TRAINING := .venv-training
starter:
	test -n "$(WORDSIGHT_DATA)" || { echo "set WORDSIGHT_DATA to the folder of the data packs"; exit 2; }
	$(call environment,$(TRAINING),-r training/requirements.txt)
	$(call install,$(TRAINING),--no-deps open_clip_torch==3.3.0 timm==1.0.31)  # ImageNet's names
	PYTHONPATH=src $(TRAINING)/bin/python -m training.starter_clip --data $(WORDSIGHT_DATA) --out training/work/$@ $(ARGS)

clean:
	rm -rf $(VENV) $(EXPORT) $(CONNECT) $(RCLIP) build dist demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis
