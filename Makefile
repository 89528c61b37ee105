# Targets for people; .ci/run calls the same ones. See README.md.

SHELL     := /bin/bash
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME  ?= 10s
BIN       ?= bin/builder
# N runs of the workloads W (all by default) of bench-peers.
N         ?= 5
W         ?=
# How many edits test-edits makes.
EDITS     ?= 5000
# Flags of go test: make test TESTFLAGS='-v -run Kill'.
TESTFLAGS ?=

# One static file: it re-executes itself as a container's first process, so that
# it must not depend on the libraries of an image, and starts without a loader.
TAGS      := seccomp,netgo,osusergo
LDFLAGS   := -s -w -X main.version=$(VERSION) -linkmode external -extldflags -static
TOOL      := $(GO) tool -modfile=fixtures/tools.mod
export GOFLAGS := -buildvcs=false -tags=$(TAGS)
# A package may take long on a busy machine: go test's own limit is 10 minutes.
TEST    := $(GO) test -timeout 60m

.DEFAULT_GOAL := build
.PHONY: deps deps-test build run test test-rootless test-debian test-edits race cover lint fmt golden fuzz bench bench-peers oracle clean

deps: ## install what building needs and is missing
	@fixtures/deps build

deps-test: deps ## install the programs that the tests compare with
	@fixtures/deps test

build: deps ## bin/builder
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN) ./cmd/builder

run: build ## a Debian base image, a real application on it, its history, its output
	@fixtures/app/run

test: deps-test build ## all tests
	$(TEST) $(TESTFLAGS) ./...

test-rootless: deps-test build ## all tests, or W=packages, as an ordinary user
	@fixtures/rootless $(W)

test-debian: deps-test build ## the tests that install Debian's packages, from its servers, or W of them
	BUILDER_TEST_APT=1 BUILDER_TEST_DEBIAN=$$($(GO) run ./fixtures/stock/print bookworm) $(TEST) $(TESTFLAGS) -run $(or $(W),Debian) ./fixtures ./executor/runc

test-edits: deps-test ## EDITS (5,000) random edits, built by machines that share a cache and by one without
	BUILDER_TEST_EDITS=$(EDITS) $(TEST) -timeout 24h $(TESTFLAGS) -v -run TestSharedIncremental ./cmd/build

race: deps-test ## the tests with the race detector, but those of whole programs
	$(TEST) -race -short $(TESTFLAGS) $$($(GO) list ./... | grep -v /fixtures)

cover: deps-test ## what the tests execute, the program's own runs included: bin/cover
	@fixtures/cover

lint: deps ## gofmt, vet, staticcheck
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt: $$bad"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

fmt: ## gofumpt, as all files are formatted
	$(TOOL) gofumpt -w $$(git ls-files '*.go')

golden: deps ## write the goldens again; read the diff
	$(TEST) $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -r -n1 dirname | sort -u) -update

fuzz: deps ## every fuzz target for FUZZTIME
	@fixtures/fuzz $(FUZZTIME)

bench: deps ## Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-peers: deps-test build ## the workloads on builder, BuildKit and buildah: W=run30,noop N=5
	$(GO) run ./fixtures/benchpeers -builder $(BIN) -n $(N) -w "$(W)"

oracle: deps-test ## record the facts of fixtures/corpus again, from a real BuildKit: W=case,case
	$(GO) run ./fixtures/oracle -w "$(W)"

clean: ## bin
	rm -rf bin
