# What people do often. Nothing here is needed to use the library: go test work runs every module's tests.

FUZZTIME ?= 5s

.DEFAULT_GOAL := help
.PHONY: help test race lint fuzz bench figures api quickstart golden tidy ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

test: ## the tests of every module
	go test work

race: ## the same under the race detector
	@.ci/run test

lint: ## gofmt, tidy, vet, staticcheck, and the rules of this house
	@.ci/run fmt tidy vet staticcheck house

fuzz: ## every fuzz target for FUZZTIME (5s)
	@FUZZTIME=$(FUZZTIME) .ci/run fuzz

bench: ## every benchmark, seven times, for benchstat
	go test -run '^$$' -bench . -benchmem -count 7 ./...

figures: ## F1 to F12 beside their limits and peers, in some minutes
	go run ./benchmarks

api: ## what the exported API has changed since the last release, or since BASE
	@.ci/api $(BASE)

quickstart: ## start the example application on 127.0.0.1
	go run ./examples/quickstart

golden: ## write the golden lists of exports and dependencies anew
	UPDATE_GOLDEN=1 go test -count=1 -run '^Test(Exports|Dependencies)$$' .

tidy: ## go mod tidy in every module
	for m in $$(git ls-files -co --exclude-standard -- go.mod '*/go.mod'); do \
		GOWORK=off go -C "$$(dirname "$$m")" mod tidy || exit 1; done

ci: ## everything that has to pass
	@.ci/run
