# The project's commands. Each says what it needs by its prerequisites; the work is done by scripts/.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# A checkout that git refuses to look into (another owner's, in a container) still builds, without its commit's name in it.
buildvcs := $(shell git rev-parse HEAD >/dev/null 2>&1 || echo -buildvcs=false)

# What libtorch and its C++ need is set for one command at a time: it is large, and only set-up knows it.
with_torch = env=$$(scripts/env.sh) && eval "$$env"
with_reference = env=$$(scripts/reference-env.sh) && eval "$$env"
with_nccl = env=$$(scripts/nccl-wheels.sh) && eval "$$env"

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | LC_ALL=C sort | awk -F '\t' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "Variables: LIBTORCH=DIR (use that libtorch), CUDA=1 or 0 (with or without the CUDA libraries),"
	@echo "  IMAGE_TAR=FILE (make test-image writes the image there too),"
	@echo "  XDG_CACHE_HOME (where downloads lie), REFERENCE=0 (make test without Python's transformers)."

.PHONY: setup
setup: ## check the tools, find or fetch libtorch, build the tokenizers' library
	@scripts/setup.sh

.PHONY: build
build: setup ## build bin/ddprun (static) and bin/ddprun-worker
	CGO_ENABLED=0 go build $(buildvcs) -trimpath -o bin/ddprun ./cmd/ddprun
	@$(with_torch) && set -x && go build $(buildvcs) -o bin/ddprun-worker ./cmd/ddprun-worker

.PHONY: test
test: build ## run every test but the long ones
	@$(with_torch) && $(with_reference) && $(with_nccl) && set -x && go test -timeout 20m ./...

.PHONY: test-all
test-all: build ## run the long tests too
	@$(with_torch) && $(with_reference) && $(with_nccl) && set -x && DDPRUN_TEST_ALL=1 DDPRUN_NODES_REPEAT=$${DDPRUN_NODES_REPEAT:-13} go test -count=1 -timeout 6h ./...

.PHONY: test-nodes
test-nodes: build ## several nodes, as network namespaces: every fault in every phase once (as root)
	@$(with_torch) && set -x && DDPRUN_TEST_ALL=1 go test -count=1 -timeout 6h -v ./test/nodes

.PHONY: test-slurm
test-slurm: build ## start a real Slurm on this machine and test on it (as root; installs Debian's packages)
	@scripts/slurm-packages.sh && $(with_torch) && set -x && go test -count=1 -timeout 20m ./test/slurm

.PHONY: test-k8s
test-k8s: build ## test on the real Kubernetes that DDPRUN_K8S_ON reaches (docs/kubernetes.md)
	@test -n "$$DDPRUN_K8S_ON" || { echo "make test-k8s: DDPRUN_K8S_ON names no cluster (docs/kubernetes.md says what it names)"; exit 1; }
	@$(with_torch) && set -x && go test -count=1 -timeout 1h ./k8s && go test -count=1 -run TestKustomizeOnServer ./cmd/ddprun

.PHONY: test-image
test-image: ## build k8s/Dockerfile with buildah, without a Docker daemon, and train in the image (as root)
	@scripts/test-image.sh $(IMAGE_TAR)

.PHONY: test-cuda-libs
test-cuda-libs: ## check what CUDA=1 sets up, without a GPU (2 GB to download)
	@$(with_torch) && $(with_nccl) && torch=$$(scripts/cuda-libs.sh) && set -x && \
		DDPRUN_CUDA_TORCH=$$torch go test -count=1 -run 'TestOneLibraryWithTorch|TestCUDAHasTheOperations' ./nccl ./internal/torch

.PHONY: test-asan
test-asan: ## run the tests of the NCCL binding under AddressSanitizer
	ASAN_OPTIONS=detect_leaks=0 DDPRUN_TEST_ALL=1 LOOPBACK_CFLAGS=-fsanitize=address,undefined go test -asan -count=1 -run 'TestCalls|TestFaults|TestAllReduce' ./nccl

.PHONY: test-race
test-race: build ## run the tests of what shares memory under the race detector (compiles for minutes)
	@$(with_torch) && set -x && go test -race -count=1 -timeout 1h ./launch/... ./internal/train ./internal/checkpoint ./internal/generation ./shard ./objectives

.PHONY: test-gpu
test-gpu: build ## run the tests that need GPUs: 1, several, several ranks on one; each skips with its reason elsewhere
	@$(with_torch) && $(with_nccl) && export LIBTORCH=$$(scripts/libtorch.sh find) && set -x && go test -count=1 -timeout 1h -v -run '^TestGPU' ./nccl ./ddp ./internal/torch ./internal/model ./internal/train ./test/e2e

.PHONY: lint
lint: setup ## gofmt, go vet, staticcheck, shellcheck, and the house rules on text
	@$(with_torch) && scripts/lint.sh

.PHONY: demo
demo: build ## continue the pre-training of a small BERT on real text with 2 ranks
	@scripts/demo.sh

.PHONY: bench
bench: build ## measure throughput and what communication costs
	@$(with_torch) && $(with_reference) && scripts/bench.sh

.PHONY: bench-data
bench-data: build ## measure preparing text beside Hugging Face's datasets
	@$(with_torch) && $(with_reference) && scripts/bench-data.sh

.PHONY: bench-gpu
bench-gpu: build ## measure training on GPUs beside PyTorch DDP with transformers, compiled and not
	@$(with_torch) && $(with_reference) && scripts/bench-gpu.sh

.PHONY: notices
notices: build ## write THIRD_PARTY_NOTICES anew, after a dependency changed
	@$(with_torch) && python3 tools/notices/notices.py >bin/notices && mv bin/notices THIRD_PARTY_NOTICES

.PHONY: clean
clean: ## remove what was built here (the cache stays)
	rm -rf bin internal/tokenizer/lib internal/tokenizer/archive.h
