# make run     start Shannon with a demo server, in ./.shannon
# make test    every test that needs only Go
# make ci      all other checks; installs what they need
# Each target works alone. Caches and tools live in .cache.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
FUZZTIME  ?= 10s
TESTFLAGS ?= -timeout 10m
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
BIN       := $(CURDIR)/.cache/bin

# What a step of `make ci` is; .ci/run goes through `test` and these.
CI_STEPS := lint vuln race fuzz cross conformance interop bench-smoke

export CGO_ENABLED = 0
export GOTOOLCHAIN = local
# The version is set below; asking git for another stamp fails in a checkout that another user owns.
export GOFLAGS += -buildvcs=false

.PHONY: build run test race lint fmt vuln fuzz interop conformance bench bench-smoke cross ci clean tools

build: ## the static binary: bin/shannon
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/shannon ./cmd/shannon

run: build ## the daemon, with a demo server, in ./.shannon
	SHANNON_HOME="$${SHANNON_HOME:-$(CURDIR)/.shannon}" exec bin/shannon serve --demo

test: ## every test that needs only Go
	status=0; \
	go vet ./... || status=1; \
	scripts/gotest.sh -shuffle=on $(TESTFLAGS) ./... || status=1; \
	exit $$status

race: export CGO_ENABLED = 1
race: ## every test under the race detector
	scripts/need.sh gcc
	STEP_REPORT= scripts/gotest.sh -race -shuffle=on $(TESTFLAGS) ./...

tools: ## the tools of tools/go.mod, into .cache/bin
	cd tools && go build -o '$(BIN)/' $$(go list -f '{{.ImportPath}}' tool)

lint: tools ## linters, formatting, tidiness of the modules
	status=0; \
	GOLANGCI_LINT_CACHE='$(CURDIR)/.cache/golangci-lint' '$(BIN)/golangci-lint' run ./... || status=1; \
	(cd tools && go vet ./... && go test ./... && go mod tidy -diff) || status=1; \
	go mod tidy -diff || status=1; \
	go mod verify || status=1; \
	exit $$status

fmt: tools ## format the code
	'$(BIN)/golangci-lint' fmt ./...

vuln: tools ## known vulnerabilities in what we call
	scripts/vuln.sh '$(BIN)/govulncheck'

fuzz: ## every fuzz target for FUZZTIME
	scripts/fuzz.sh '$(FUZZTIME)'

interop: build ## real clients and servers
	scripts/interop.sh

conformance: build ## the official conformance suite
	scripts/conformance.sh

bench: build ## the benchmark, with its table
	scripts/bench.sh

bench-smoke: build ## the benchmark, just long enough to see that it works
	scripts/bench.sh --smoke

cross: ## build and vet for every platform
	for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		echo "$$platform"; \
		go build -trimpath -ldflags '$(LDFLAGS)' -o dist/$$GOOS-$$GOARCH/ ./cmd/shannon; \
		go vet ./...; \
	done

ci: ## every check beside `make test`; one that fails does not stop the others
	scripts/steps.sh $(CI_STEPS)

clean:
	rm -rf bin dist .cache
