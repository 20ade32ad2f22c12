# Commands for people and for CI; each is bounded.
GO ?= go
FUZZTIME ?= 30
FAULTTIME ?= 4m30s
REDISFAULTTIME ?= 4m
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
VULNDB ?= https://vuln.go.dev
export CGO_ENABLED ?= 1
# Each process with the race detector would sleep a second before it ends.
export GORACE ?= atexit_sleep_ms=20

# What go's ./... leaves out, since it stands under testdata.
TOOLS = ./testdata/e2e ./testdata/peers ./testdata/browser ./testdata/faults ./testdata/bench ./testdata/guardbench ./testdata/others

.PHONY: build test browser static vuln need needweb fuzz others faults bench pagebench guardbench load

build: ## a static binary in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/consentgate ./cmd/consentgate

test: need static ## all tests, under ten minutes on two cores
	$(GO) test -race -timeout 6m ./...
	GATEWAY_RACE=1 $(GO) test -timeout 6m -parallel 6 ./testdata/e2e ./testdata/peers
	@rm -rf testdata/browser/pictures && mkdir testdata/browser/pictures
	$(GO) test -timeout 3m -parallel 6 -artifacts -outputdir $(CURDIR)/testdata/browser/pictures ./testdata/browser
	$(GO) test -timeout 1m ./testdata/faults

browser: need ## every copy of a corpus of real mail, and every way to phone home, in Chromium; about five minutes
	EVERY=1 $(GO) test -v -timeout 20m -parallel 6 ./testdata/browser -results $(CURDIR)/testdata/browser/RESULTS.md

# go run builds a tool of that version outside our go.mod, from the module proxy or its cache.
static: ## gofmt, vet, staticcheck
	@bad="$$(gofmt -l .)"; if [ -n "$$bad" ]; then echo "not gofmt-clean: $$bad"; exit 1; fi
	$(GO) vet ./... $(TOOLS)
	@if out="$$($(GO) run $(STATICCHECK) -version 2>&1)"; then \
		echo "$(GO) run $(STATICCHECK) ./... $(TOOLS)"; \
		$(GO) run $(STATICCHECK) ./... $(TOOLS); \
	else echo "$$out" | tail -n 1; echo "SKIPPED: $(STATICCHECK) cannot be had here (see above), so nothing was checked with it; set GOPROXY to a module proxy that can be reached"; fi

vuln: ## known holes in what we build on; asks VULNDB
	@if out="$$($(GO) run $(GOVULNCHECK) -db $(VULNDB) ./... 2>&1)"; then echo "$$out"; else echo "$$out"; \
		case "$$out" in *"fetching vulnerabilities"*) echo "NOTHING WAS CHECKED: the database cannot be reached; run this where $(VULNDB) can be, or set VULNDB to a copy";; esac; exit 1; fi

need: ## what the tests use beside Go; on Debian as root it is installed
	@miss=""; for c in redis-server:redis-server ip:iproute2 /usr/sbin/opendkim:opendkim swaks:swaks python3:python3 chromium:chromium curl:curl msmtp:msmtp /usr/sbin/postfix:postfix,libsasl2-modules node:nodejs npm:npm; do \
		command -v $${c%%:*} >/dev/null 2>&1 || miss="$$miss $$(echo $${c##*:} | tr , ' ')"; done; \
	if [ -n "$$miss" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "installing:$$miss"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$miss >/dev/null; \
		else echo "missing:$$miss. The tests that need them are skipped and say so; install them with your package manager."; fi; fi

fuzz: ## every fuzz target, FUZZTIME minutes in all
	@GO="$(GO)" testdata/fuzz.sh $(FUZZTIME)

others: need ## what other projects test themselves with, fetched and run against this one
	@if command -v nmap >/dev/null 2>&1; then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nmap >/dev/null; fi
	@GO="$(GO)" testdata/others/run.sh

faults: need ## the gateway killed, its smarthost misbehaving, its disk full, FAULTTIME; then its Redis going wrong, REDISFAULTTIME; 0 leaves a part out
	$(GO) run ./testdata/faults -time $(FAULTTIME) -redis-time $(REDISFAULTTIME) -results testdata/faults/RESULTS.md

bench: need ## Parse, Render, Lookup, Sign, the consent stores, and messages/s through serve; PEER=1: beside Postfix with opendkim
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 1s -timeout 5m ./rewrite/... ./consent/... ./relay/... ./cmd/...
	$(GO) test -timeout 1m ./testdata/bench
	$(GO) run ./testdata/bench -stores -results testdata/bench/STORES.md
	$(GO) run ./testdata/bench -peer=$(if $(PEER),true,false) -results testdata/bench/RESULTS.md

needweb: need # what measures web servers
	@miss=""; for c in wrk:wrk nginx:nginx-light; do PATH="$$PATH:/usr/sbin" command -v $${c%%:*} >/dev/null 2>&1 || miss="$$miss $${c##*:}"; done; \
	if [ -n "$$miss" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "installing:$$miss"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$miss >/dev/null; \
		else echo "missing:$$miss; install them with your package manager"; exit 1; fi; fi

pagebench: needweb ## the unsubscribe page and one click beside nginx with a file of that size, by wrk; two minutes
	PATH="$$PATH:/usr/sbin" $(GO) run ./testdata/bench -page -results testdata/bench/RESULTS-page.md

guardbench: needweb ## wrk on guarded pixels and links, beside nginx; about a minute
	PATH="$$PATH:/usr/sbin" $(GO) run ./testdata/guardbench -results testdata/guardbench/RESULTS.md

load: need ## 1,000 idle and 200 sending connections, and 50 MiB on 20 at once, with the memory they take; under three minutes
	$(GO) run ./testdata/bench -held
