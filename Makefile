# The two commands: "make run" serves the main example, "make test" passes all tests.
# Building and running need Go alone. The tests also build JavaScript guests (Node and npm)
# and C guests (clang with wasi-libc), and run nginx and varnish; tests whose tool is missing are
# skipped with a note, or, with CI=true, fail.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
JS_GUESTS   := $(dir $(wildcard examples/*/js/package.json))
MODULES     := $(dir $(wildcard sdk/*/go.mod sdk/*/*/go.mod examples/*/go.mod examples/*/*/go.mod))
JS_MODULES  := $(dir $(wildcard sdk/*/package.json))
BENCH       ?= all

export CGO_ENABLED ?= 0

.PHONY: run build test check cross unit modules js deps bench soak clean

run: build
	bin/wedge world examples/markdown/go examples/cdn

build:
	$(GO) build -o bin/wedge ./cmd/wedge

test: check cross js unit modules

# gofmt, vet and staticcheck are clean, and go.mod says what is used.
check:
	@test -z "$$(gofmt -l . | grep -v node_modules)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff

# Wedge builds for machines other than this one.
cross:
	GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/wedge
	GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/wedge
	GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/wedge

# npm packages that JavaScript guests are built with.
js:
	@for d in $(JS_GUESTS); do \
		command -v npm >/dev/null || { echo "npm is missing: JavaScript guests are not tested"; break; }; \
		test -d $$d/node_modules || (cd $$d && npm ci --no-audit --no-fund --loglevel=error) || exit 1; \
	done

# The race detector needs cgo; the product binary does not. Tests wait more than they compute, so four packages run at once, those that
# take longest first.
unit:
	CGO_ENABLED=1 $(GO) test -race -p 4 -timeout 9m ./wedgetest ./cache ./world ./node ./wasm ./...

# Modules of their own: the guest SDK and the examples.
modules:
	@for d in $(sort $(MODULES)); do echo "== $$d"; (cd $$d && $(GO) vet ./... && $(GO) test ./...) || exit 1; done
	@for d in $(JS_MODULES); do \
		command -v node >/dev/null || { echo "node is missing: $$d is not tested"; break; }; \
		echo "== $$d"; (cd $$d && node --test test/) || exit 1; \
	done

# Debian packages for the tests in full; needs root.
deps:
	apt-get update -q && apt-get install -qy clang lld wasi-libc libclang-rt-14-dev-wasm32 nginx varnish wrk

# One table, and the same rows as JSON lines in bench/out.jsonl. BENCH=sandbox: the rows
# that need no other process, within a minute.
bench: build js
	$(GO) run ./bench -rows $(BENCH) -out bench/out.jsonl

# Longer than make test allows: many requests of every kind, fuzzing; and RUNS worlds for SOAK each, whose state and whose purges are checked
# while PoPs are cut, killed and slowed down.
SOAK ?= 1h
RUNS ?= 10
soak:
	WEDGE_SOAK=1 $(GO) test -count=1 -timeout 60m -run 'Soak|Leak' ./...
	WEDGE_SOAK=$(SOAK) $(GO) test -count=$(RUNS) -timeout 0 -run 'Linearizable|ChaosSoak|SessionSoak' ./world

clean:
	rm -rf bin
	find examples -name .wedge -prune -exec rm -rf {} +
