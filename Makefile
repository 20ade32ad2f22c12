# Commands for people and for CI; each is bounded.
GO ?= go
FUZZTIME ?= 30s
export CGO_ENABLED ?= 1

.PHONY: build test need fuzz bench

build: ## a static binary in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/consentgate ./cmd/consentgate

test: need ## all tests, under ten minutes on two cores
	@bad="$$(gofmt -l .)"; if [ -n "$$bad" ]; then echo "not gofmt-clean: $$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) test -race -timeout 9m ./... ./testdata/e2e

need: ## what the tests use beside Go; on Debian as root it is installed
	@miss=""; for c in redis-server:redis-server swaks:swaks python3:python3; do \
		command -v $${c%%:*} >/dev/null 2>&1 || miss="$$miss $${c##*:}"; done; \
	if [ -n "$$miss" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "installing:$$miss"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$miss >/dev/null; \
		else echo "missing:$$miss. The tests that need them are skipped and say so; install them with your package manager."; fi; fi

fuzz: ## every fuzz target for FUZZTIME in turn
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -parallel 2 $$p || exit 1; done; done

bench: need ## Parse, Render, Lookup, Sign, and messages/s through serve; PEER=1: beside Postfix with opendkim
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 1s -timeout 5m ./rewrite/... ./consent/... ./relay/... ./cmd/...
	$(GO) test -timeout 1m ./testdata/bench
	$(GO) run ./testdata/bench -peer=$(if $(PEER),true,false) -results testdata/bench/RESULTS.md
