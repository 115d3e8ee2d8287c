# What developers do with kraft. `go build`, `go test ./...` and `go run . dev` work without it.

FUZZ = 300000x
SEEDS = 20000
FROM = 1
CHAOS = 2h
REQUESTS = 50
SEED = $(shell date +%s)

.PHONY: build test lint race bench fuzz sim chaos differential

build: ## the binary, static and small
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o kraft .

test: ## everything that this machine has the tools for; KRAFT_E2E=all makes a missing tool a failure
	go test ./...

race:
	go test -race -short -timeout 20m $$(go list ./... | grep -v /e2e) ./e2e/race
	go test -tags lockorder -short -timeout 20m ./wire/locks ./storage ./replication ./raftmeta/... ./groups/... ./e2e/race

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	go tool staticcheck ./...

sim: ## clusters in virtual time (docs/proof.md), SEEDS of them from FROM on; a thousand take two minutes
	KRAFT_SIM_SEEDS=$(SEEDS) KRAFT_SIM_FROM=$(FROM) go test ./e2e/sim -run TestSeeds -count 1 -timeout 0 -v

chaos: ## clusters of real processes that fail at random for CHAOS (docs/proof.md); Linux, as root
	KRAFT_CHAOS=$(CHAOS) KRAFT_E2E=all go test ./e2e/chaos -run TestChaos -count 1 -timeout 0 -v

differential: ## requests beside Apache Kafka, REQUESTS of each version of each API, others each time: about an hour; and settings and batches
	KRAFT_REQUESTS=$(REQUESTS) KRAFT_REQUESTS_SEED=$(SEED) KRAFT_E2E=all go test ./e2e/requests ./e2e/settings ./e2e/batches -count 1 -timeout 0 -v

bench: ## kraft beside Apache Kafka: half an hour; FLAGS=-quick for a look
	go test ./storage -run '^$$' -bench Append -benchtime 8000x -count 5
	go test ./storage -run '^$$' -bench 'Read|Recover|Compact'
	go test ./wire -run '^$$' -bench SendRegion -count 5
	go run ./e2e/bench -out benchmarks.out $(FLAGS)

fuzz: ## each target for a fixed number of inputs, some 30 s; FUZZ=10m for longer
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\).*/\1/p' $$file); do \
			echo "fuzz $$target"; \
			go test ./$$(dirname $$file) -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ) -fuzzminimizetime 1s || exit 1; \
		done; \
	done
