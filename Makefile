# Everything is built and tested by these targets; nothing has to be prepared.
GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build run test check unit race test-drivers difftest difftest-long bench bounds bench-check histories faults clean

build: deps-compiler
	$(GO) build -o bin/shardgate .
	$(GO) build -o bin/shardgate-bench ./bench

# A cluster of four shards on this machine: make run ARGS="--shards 2"
run: deps build
	exec bin/shardgate dev $(ARGS)

test: deps check unit race test-drivers

# Formatting and static analysis.
check: deps-compiler
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

unit: deps deps-browser
	$(GO) test -timeout 10m ./...

# The packages where goroutines meet, once more under the race detector. What runs the
# command as a process of its own would not be looked at.
race: deps
	$(GO) test -race -short -timeout 10m $$($(GO) list ./gateway/... ./planner ./wire | grep -v /e2e$$)

# The drivers of other languages; their runtimes are installed when missing.
test-drivers: deps build
	scripts/install.sh drivers
	$(GO) test -timeout 10m -tags drivers ./gateway/drivers

# Random statements, whose answers must be those of one PostgreSQL; a part of unit.
difftest: deps
	$(GO) test -count=1 -timeout 10m -v -run 'TestRandom|TestTraps|TestChanges|TestWith' ./gateway/difftest

# The same for longer: make difftest-long COUNT=200000 SHARDS=5 SEED=1
COUNT ?= 50000
SHARDS ?= 3
SEED ?= 0
difftest-long: deps
	$(GO) test -count=1 -timeout 24h -v -run TestRandom ./gateway/difftest -args -statements $(COUNT) -shards $(SHARDS) -seed $(SEED)

bench: deps
	$(GO) run ./bench $(ARGS)

# Every figure that docs/benchmark.md promises a bound of, with the bound and what became of it.
bounds: deps
	$(GO) run ./bench --bounds $(ARGS)

# The hot paths beside those of another commit: make bench-check BASE=main~1 ROUNDS=12
BASE ?= HEAD~1
ROUNDS ?= 8
bench-check: deps-compiler
	GO="$(GO)" scripts/bench-check.sh $(BASE) $(ROUNDS)

# What clients see while gateways, shards and links are broken: docs/histories.md.
histories: deps
	$(GO) run ./bench histories $(ARGS)

# Every fault at every message between a gateway and its shards; unit tries a part of them.
# Hours: make faults RUN='TestMessages/transfer'
RUN ?= .
faults: deps
	SHARDGATE_FAULTS=all $(GO) test -count=1 -timeout 24h -v -run '$(RUN)' ./gateway/faults

.PHONY: deps deps-compiler deps-browser
deps: deps-compiler
	@scripts/install.sh postgres
# Without one, the test that looks at the benchmark's page is skipped.
deps-browser:
	-@scripts/install.sh browser
deps-compiler:
	@scripts/install.sh compiler

clean:
	rm -rf bin
