# Everything is set up in .venv; `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt pyproject.toml setup.py $(wildcard csrc/*/*)

.PHONY: help demo test test-fast test-processors test-benchmarks test-ray test-js test-readers test-triton test-torch test-servers test-exporters test-tfmot test-aarch64 lint format bench sanitize fuzz docs wheel clean
.DEFAULT_GOAL := test

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  (3, 10) <= v < (3, 14) or sys.exit("yolotf needs Python 3.10 to 3.13, %s is %d.%d; \
	  try: make PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"

# What compiles, without TensorFlow.
$(VENV)/compile: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --group build --group wheel
	touch $@

$(VENV)/built: $(NATIVE) | $(BIN)/python
	$(BIN)/python -m pip install -q --group build --group tensorflow --group test
	$(BIN)/python -m pip install -q --no-build-isolation -e .
	touch $@

$(VENV)/lint: pyproject.toml $(VENV)/built
	$(BIN)/python -m pip install -q --group lint
	touch $@

demo: $(VENV)/built ## load the official yolov4-tiny.weights and detect on two photographs
	$(BIN)/yolotf demo

test: $(VENV)/built ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST)

test-fast: $(VENV)/built ## run the quick tests: a minute on two cores
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not shared and not ray" $(PYTEST)

# What computes, as on processors where TensorFlow leaves oneDNN off, and where oneDNN has no
# AVX-512. That all three give the same answers is in every run (test_processors.py).
COMPUTING := tests/graphs tests/runtime tests/inference tests/formats \
  tests/models/test_recurrent_layers.py --ignore tests/inference/test_processors.py
test-processors: $(VENV)/built ## run the tests that compute as on processors without AVX-512
	TF_ENABLE_ONEDNN_OPTS=0 \
	  $(BIN)/python -m pytest -n auto --dist loadfile $(COMPUTING) $(PYTEST)
	TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2 \
	  $(BIN)/python -m pytest -n auto --dist loadfile $(COMPUTING) $(PYTEST)

test-benchmarks: $(VENV)/built ## run the benchmarks, small, those of many processes too
	YOLOTF_BENCHMARKS=1 $(BIN)/python -m pytest tests/test_benchmarks.py $(PYTEST)

# On a Ray cluster of this machine.
test-ray: $(VENV)/built ## run the tests that start a Ray cluster on this machine
	$(BIN)/python -m pip install -q -e ".[ray]" --no-build-isolation
	$(BIN)/python -m pytest -m ray tests/test_ray.py
	$(BIN)/python -m pytest tests/test_same_options.py

# What is not in the registry of Python packages alone; nothing of it is needed elsewhere.
test-js: $(VENV)/built ## run exports in TensorFlow.js; needs Node.js and npm
	npm install --silent --ignore-scripts --no-package-lock --prefix build-js @tensorflow/tfjs@4.22.0
	$(BIN)/python -m pip install -q --no-deps --upgrade --target build-js/python tensorflowjs==4.22.0
	YOLOTF_JS=$(CURDIR)/build-js $(BIN)/python -m pytest -m javascript tests/inference/test_tensorflow_js.py

# Readers that other environments have: OpenCV 5 beside the OpenCV 4 of the tests, and large ones.
test-readers: $(VENV)/built ## read ONNX with OpenCV 5, tract, MNN and ncnn, .tflite with tflite-support
	$(BIN)/python -m venv build-readers
	build-readers/bin/python -m pip install -q "opencv-python-headless>=5" tract MNN ncnn onnx
	build-readers/bin/python -m pip install -q --no-deps pnnx  # its program needs no PyTorch
	@$(BIN)/python -m pip install -q --no-deps --upgrade --target build-readers/lite \
	  tflite-support==0.4.4 || echo "no tflite-support for this Python: its test is skipped"
	YOLOTF_READERS=$(CURDIR)/build-readers/bin/python YOLOTF_LITE_SUPPORT=$(CURDIR)/build-readers/lite \
	  $(BIN)/python -m pytest tests/onnx_models/test_readers.py \
	  tests/formats/test_lite_answers.py -k "readers_compute or opencv_5 or tflite_support"

# A server from pytriton's wheel, which goes with NumPy 1. The packages of the tests' environment
# come after its own. The wheel has no backend for ONNX files; that of an installed Triton 2.51 is
# tested with make test-triton TRITON_BACKENDS=/opt/tritonserver/backends
TRITON_BACKENDS ?=
test-triton: $(VENV)/built ## serve the models of docs/triton.md in a Triton server
	$(BIN)/python -m venv build-triton
	build-triton/bin/python -m pip install -q nvidia-pytriton==0.7.0 "numpy<2"
	$(BIN)/python -c "import sysconfig; print('$(CURDIR)', sysconfig.get_path('purelib'), sep='\n')" > \
	  $$(build-triton/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/yolotf.pth
	YOLOTF_TRITON=$(CURDIR)/build-triton/bin/python $(if $(TRITON_BACKENDS),YOLOTF_TRITON_BACKENDS=$(TRITON_BACKENDS)) \
	  $(BIN)/python -m pytest tests/test_triton.py

test-torch: $(VENV)/built ## load .safetensors in PyTorch
	$(BIN)/python -m pip install -q torch
	$(BIN)/python -m pytest tests/formats/test_torch.py

# The servers' own pins differ from ours; our packages come after theirs.
test-servers: $(VENV)/built ## serve a Detector by LitServe, BentoML, KServe and MLflow
	$(BIN)/python -m venv build-servers
	build-servers/bin/python -m pip install -q litserve==0.2.19 bentoml==1.4.40 kserve==0.21.0 \
	  mlflow==3.17.2 gunicorn
	$(BIN)/python -c "import sysconfig; print('$(CURDIR)', sysconfig.get_path('purelib'), sep='\n')" > \
	  $$(build-servers/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/yolotf.pth
	YOLOTF_SERVERS=$(CURDIR)/build-servers/bin/python $(BIN)/python -m pytest tests/test_servers.py

# The exporters' own pins differ from ours; our packages come after theirs.
test-exporters: $(VENV)/built ## evaluate data sets that datumaro, Label Studio, supervision and globox write
	$(BIN)/python -m venv build-exporters
	build-exporters/bin/python -m pip install -q "pip>=25.1"
	build-exporters/bin/python -m pip install -q --group exporters
	$(BIN)/python -c "import sysconfig; print('$(CURDIR)', sysconfig.get_path('purelib'), sep='\n')" > \
	  $$(build-exporters/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/yolotf.pth
	build-exporters/bin/python -m pytest --noconftest tests/evaluation/test_real_exporters.py

# Without its requirements: they name absl 1, and TensorFlow brings absl 2.
test-tfmot: $(VENV)/built ## prune and quantize models with tfmot (tf_keras)
	$(BIN)/python -m pip install -q --no-deps --upgrade --target build-tfmot \
	  tensorflow-model-optimization==0.8.1 dm-tree absl-py
	YOLOTF_TFMOT=$(CURDIR)/build-tfmot $(BIN)/python -m pytest tests/models/test_tfmot.py

lint: $(VENV)/lint ## check format, types, import contracts, words, workflows and stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tools/check_words.py
	$(BIN)/actionlint .github/workflows/*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*/*.h csrc/*/*.cc tests/csrc/*.h tests/csrc/*.cc
	$(BIN)/stubtest --mypy-config-file pyproject.toml yolotf._core

format: $(VENV)/lint ## format Python and C++
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i csrc/*/*.h csrc/*/*.cc tests/csrc/*.h tests/csrc/*.cc

# The core without Python and TensorFlow, warnings as errors, under the sanitizers.
sanitize: $(VENV)/compile ## test the C++ core under the address and undefined behaviour sanitizers
	$(BIN)/cmake -S . -B build-sanitize -DYOLOTF_PYTHON=OFF -DYOLOTF_TESTS=ON \
	  -DYOLOTF_SANITIZE=ON -DYOLOTF_WERROR=ON
	$(BIN)/cmake --build build-sanitize
	$(BIN)/ctest --test-dir build-sanitize --output-on-failure --no-tests=error

# The core, its tests and the fuzz targets' seeds as programs for aarch64, emulated.
test-aarch64: $(VENV)/compile ## test the C++ core on aarch64, emulated
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$tool > /dev/null || { \
	  echo "make test-aarch64 needs $$tool, which is not there;" \
	    "try: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }; done
	$(BIN)/cmake -S . -B build-aarch64 --toolchain tools/aarch64.cmake -DYOLOTF_PYTHON=OFF \
	  -DYOLOTF_TESTS=ON -DYOLOTF_WERROR=ON
	$(BIN)/cmake --build build-aarch64
	$(BIN)/ctest --test-dir build-aarch64 --output-on-failure --no-tests=error

# The core under libFuzzer, each target for FUZZ_SECONDS; then hours, if you like.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := fuzz_header fuzz_plan fuzz_damage fuzz_decode fuzz_fit fuzz_load
CLANG ?= clang++
# llvm-cov-16 of clang++-16.
LLVM_VERSION = $(patsubst clang++%,%,$(notdir $(CLANG)))
fuzz: $(VENV)/compile ## fuzz the C++ core, FUZZ_SECONDS for each target
	@command -v $(CLANG) > /dev/null || { \
	  echo "make fuzz needs clang++ (libFuzzer), which is not there; try: apt-get install clang"; exit 1; }
	$(BIN)/cmake -S . -B build-fuzz -DYOLOTF_PYTHON=OFF -DYOLOTF_FUZZ=ON -DYOLOTF_SANITIZE=ON \
	  -DCMAKE_CXX_COMPILER=$(CLANG)
	$(BIN)/cmake --build build-fuzz
	for target in $(FUZZ_TARGETS); do \
	  mkdir -p build-fuzz/corpus/$$target && \
	  LLVM_PROFILE_FILE=build-fuzz/$$target.profraw \
	    build-fuzz/$$target -max_len=65536 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
	    -artifact_prefix=build-fuzz/ build-fuzz/corpus/$$target tests/csrc/seeds/$$target || exit 1; \
	done
	llvm-profdata$(LLVM_VERSION) merge -o build-fuzz/all.profdata build-fuzz/fuzz_*.profraw
	@echo "Lines of the core that were reached:"
	@llvm-cov$(LLVM_VERSION) report build-fuzz/$(firstword $(FUZZ_TARGETS)) \
	  $(FUZZ_TARGETS:%=-object build-fuzz/%) -instr-profile build-fuzz/all.profdata \
	  -show-region-summary=0 -show-branch-summary=0 csrc/*/*.cc

# The pages of docs/ and the reference from the docstrings, into site/.
docs: $(VENV)/built ## build the pages and the reference into site/
	$(BIN)/python -m pip install -q --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

# Into wheelhouse/: make wheel MINORS="2.20 2.21" ARCH=aarch64.
ARCH ?= $(shell uname -m)
wheel: $(VENV)/compile ## build one wheel with the op for several TensorFlows, for ARCH
	$(BIN)/python tools/build_wheel.py wheelhouse $(MINORS) --arch $(ARCH)

bench: $(VENV)/built ## time loading against pure Python
	$(BIN)/python benchmarks/load.py

clean: ## remove what was built
	rm -rf build build-* dist *.egg-info demo-output wheelhouse site yolotf/*.so yolotf/_op
