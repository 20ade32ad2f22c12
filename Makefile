# Commands for people and for CI; each is bounded.
GO ?= go
FUZZTIME ?= 30
FAULTTIME ?= 3m30s
MACHINETIME ?= 3m30s
REDISFAULTTIME ?= 4m
MANYTIME ?= 90s
SOAKTIME ?= 30m
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
VULNDB ?= https://vuln.go.dev
VULNDBMODULE ?= golang.org/x/vulndb@latest
CYCLONEDX ?= github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
export CGO_ENABLED ?= 1
# Each process with the race detector would sleep a second before it ends.
export GORACE ?= atexit_sleep_ms=20

# What go's ./... leaves out, since it stands under testdata.
TOOLS = ./testdata/e2e ./testdata/peers ./testdata/browser ./testdata/faults ./testdata/bench ./testdata/guardbench ./testdata/docs ./testdata/recipes/backup ./testdata/others ./testdata/hostile ./testdata/process

.PHONY: build test recipes boot docker browser static vuln reproduce sbom need needweb needwatch fuzz others faults soak hostile bench pagebench guardbench load

build: ## the program in bin/, which signs by the machine's OpenSSL where it has that; CGO_ENABLED=0: a static one, which does not
	CGO_ENABLED=$(if $(shell command -v $${CC:-gcc} 2>/dev/null),$(CGO_ENABLED),0) $(GO) build -trimpath -o bin/consentgate ./cmd/consentgate

test: need needwatch static ## all tests, under ten minutes on two cores
	$(GO) test -race -timeout 6m -parallel 4 ./...
	$(GO) test -timeout 1m -run '^TestCost$$' ./relay
	GATEWAY_RACE=1 $(GO) test -timeout 6m -parallel 6 ./testdata/e2e ./testdata/peers ./testdata/faults ./testdata/bench ./testdata/docs ./testdata/process ./testdata/recipes/backup
	@rm -rf testdata/browser/pictures && mkdir testdata/browser/pictures
	$(GO) test -timeout 3m -parallel 6 -artifacts -outputdir $(CURDIR)/testdata/browser/pictures ./testdata/browser

recipes: need ## what the documentation tells users of other programs to set, with those programs; under two minutes
	$(GO) test -count 1 -timeout 5m -parallel 6 -run 'Recipe' ./testdata/peers -recipes $(CURDIR)/testdata/recipes/RESULTS.md

boot: need ## the units of deploy/systemd under a systemd that boots in namespaces of its own, as root; about a minute
	BOOT=1 $(GO) test -count 1 -timeout 8m -run TestBoot ./deploy

docker: need ## the image built from its Dockerfile and run by a Docker engine: the one that answers, or as root one of the test's own; under ten minutes
	@miss=""; for c in docker:docker.io dockerd:docker.io busybox:busybox-static; do command -v $${c%%:*} >/dev/null 2>&1 || miss="$$miss $${c##*:}"; done; \
	if [ -n "$$miss" ] && ! docker version >/dev/null 2>&1; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "installing:$$miss"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$miss >/dev/null; \
		else echo "missing:$$miss; install them with your package manager"; exit 1; fi; fi
	DOCKER=1 $(GO) test -v -count 1 -timeout 15m -run TestEngine ./deploy

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

vuln: ## known holes in what we build on; asks VULNDB, or builds the database from its module where VULNDB cannot be reached
	@out="$$($(GO) run $(GOVULNCHECK) -db $(VULNDB) ./... 2>&1)"; st=$$?; \
	case "$$out" in *"fetching vulnerabilities"*) \
		echo "$(VULNDB) cannot be reached; taking $(VULNDBMODULE) from the module proxy"; \
		dir="$$($(GO) mod download -json $(VULNDBMODULE) | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')" && [ -n "$$dir" ] || { echo "NOTHING WAS CHECKED: $(VULNDBMODULE) cannot be had either"; exit 1; }; \
		db="$$(mktemp -d)"; echo "the database as of $${dir##*@}"; \
		$(GO) run golang.org/x/vulndb/cmd/indexdb@$${dir##*@} -vulns "$$dir/data/osv" -out "$$db" && out="$$($(GO) run $(GOVULNCHECK) -db "file://$$db" ./... 2>&1)"; st=$$?; rm -rf "$$db";; \
	esac; echo "$$out"; exit $$st

reproduce: ## the static binary twice, from two folders and two empty build caches: the same bytes; two minutes
	@dir="$$(mktemp -d)"; trap 'rm -rf "$$dir"' EXIT; set -e; \
	for n in one two; do mkdir -p "$$dir/$$n"; git archive HEAD | tar -x -C "$$dir/$$n"; \
		(cd "$$dir/$$n" && GOCACHE="$$dir/cache-$$n" CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o "$$dir/$$n.bin" ./cmd/consentgate); done; \
	sha256sum "$$dir/one.bin" "$$dir/two.bin" | cut -d' ' -f1; cmp "$$dir/one.bin" "$$dir/two.bin" && echo "the same bytes"

sbom: build ## what is in that binary, as CycloneDX JSON with licences and hashes, in bin/consentgate.cdx.json
	$(GO) run $(CYCLONEDX) bin -json -licenses -std -version "$$(git rev-parse HEAD)" -output bin/consentgate.cdx.json bin/consentgate
	@grep -c '"purl"' bin/consentgate.cdx.json | sed 's/$$/ components/'

need: ## what the tests use beside Go; on Debian as root it is installed
	@miss=""; for c in redis-server:redis-server ip:iproute2 /usr/sbin/haproxy:haproxy /usr/sbin/opendkim:opendkim swaks:swaks python3:python3 chromium:chromium curl:curl msmtp:msmtp /usr/sbin/postfix:postfix,libsasl2-modules node:nodejs npm:npm zsh:zsh fish:fish mandoc:mandoc php:php-cli,libphp-phpmailer django-admin:python3-django systemd-analyze:systemd unshare:util-linux pg_ctlcluster:postgresql gcc:gcc,libc6-dev; do \
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

faults: need ## the gateway killed, its smarthost misbehaving, its disk full, FAULTTIME; its clock, disk, network and process, MACHINETIME; its Redis going wrong, REDISFAULTTIME; three gateways behind HAProxy, MANYTIME; 0 leaves a part out; under 15 minutes
	$(GO) run ./testdata/faults -time $(FAULTTIME) -machine-time $(MACHINETIME) -redis-time $(REDISFAULTTIME) -many-time $(MANYTIME) -results testdata/faults/RESULTS.md

soak: need ## one gateway at half of what it can for SOAKTIME, with a fault about every minute: nothing lost, and it does not grow
	$(GO) run ./testdata/faults -time 0 -machine-time 0 -redis-time 0 -many-time 0 -soak-time $(SOAKTIME) -soak-results testdata/faults/SOAK.md

hostile: need ## attacks by strangers, senders and readers, and what the honest notice of them; about ten minutes
	$(GO) run ./testdata/hostile -results testdata/hostile/RESULTS.md

bench: need ## the parts by Go's benchmarks, the consent stores, and mail through serve beside Postfix, opendkim and Haraka; under 15 minutes. PEER=0: without those
	$(GO) test -run '^$$' -bench . -benchmem -benchtime 500ms -skip 'Hostile/./^(512K|1024K)' -timeout 5m ./rewrite/... ./consent/... ./relay/... ./cmd/...
	PATH="$$PATH:/usr/sbin" $(GO) run ./testdata/bench -peers=$(if $(filter 0,$(PEER)),false,true) -results testdata/bench

needwatch: # Prometheus with promtool, which read what is counted; on Debian its service may start, which the tests do not use
	@command -v promtool >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "installing: prometheus"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null; \
		else echo "missing: prometheus. The tests that need it are skipped and say so; install it with your package manager."; fi; }

needweb: need # what measures web servers
	@miss=""; for c in wrk:wrk nginx:nginx-light; do PATH="$$PATH:/usr/sbin" command -v $${c%%:*} >/dev/null 2>&1 || miss="$$miss $${c##*:}"; done; \
	if [ -n "$$miss" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "installing:$$miss"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$miss >/dev/null; \
		else echo "missing:$$miss; install them with your package manager"; exit 1; fi; fi

pagebench: needweb ## the unsubscribe page and one click beside nginx with a file of that size, by wrk; two minutes
	PATH="$$PATH:/usr/sbin" $(GO) run ./testdata/bench -only page -results testdata/bench

guardbench: needweb ## wrk on guarded pixels and links, beside nginx; about a minute
	PATH="$$PATH:/usr/sbin" $(GO) run ./testdata/guardbench -results testdata/guardbench/RESULTS.md

load: need ## 1,000 idle and 200 sending connections, and 50 MiB on 20 at once, with the memory they take; under three minutes
	$(GO) run ./testdata/bench -only held
