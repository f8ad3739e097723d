# `make` lists the targets. Needs make and a Python from 3.11 on; everything else goes into .venv.
PYTHON ?=
ARGS ?=
export PYTHON
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help venv tools run test test-unit soak soak-events soak-cache mutation check bench bench-peers bench-scale bench-server bench-parts schema lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

venv:
	@sh scripts/venv.sh

tools: venv
	@$(PY) scripts/venv.py requirements/soak.txt .local/tools

run: venv ## PostgreSQL, Redis, migrations, first administrator, web and worker, until Ctrl-C (PORT=8000)
	@exec $(PY) -m config.devserver

test: venv ## the whole suite (ARGS="-k word" for a part)
	@exec $(PY) -m pytest -n 2 --dist loadfile $(ARGS)

test-unit: venv ## only what needs no server
	@exec $(PY) -m pytest tests/unit $(ARGS)

soak: tools ## the long runs: chaos, fuzzing, scanners (their tools go into .local/tools)
	@exec $(PY) -m pytest -m soak --timeout 3600 $(ARGS)

soak-events: venv ## every process killed at random, for minutes: no event lost, invented or out of order
	@exec $(PY) -m pytest -m soak --timeout 3600 tests/chaos $(ARGS)

soak-cache: venv ## a million reads (SOAK_READS) while everything is stopped, killed or emptied: none older than a write
	@exec $(PY) -m pytest -m soak --timeout 3600 tests/soak/test_staleness_soak.py $(ARGS)

mutation: tools ## change the code a little, again and again: does a test notice? (ARGS="domain tokens keyring cache outbox")
	@exec $(PY) -m scripts.mutation $(ARGS)

check: venv ## lint, types, architecture, migrations, deploy check, schema drift, container files
	@exec $(PY) -m scripts.check $(ARGS)

bench: venv ## our speed beside a service written by hand in Go; needs wrk and Go, and an otherwise idle machine
	@exec $(PY) -m benchmarks.against_go $(ARGS)

bench-peers: venv ## beside djoser, fastapi-users and better-auth; needs wrk, and Node for the last
	@exec $(PY) -m benchmarks.against_peers $(ARGS)

bench-scale: venv ## lists and searches with ten thousand to ten million users
	@exec $(PY) -m benchmarks.scale $(ARGS)

bench-server: venv ## servers, workers and threads: which serves us best
	@exec $(PY) -m benchmarks.server $(ARGS)

bench-parts: venv ## relay, refusal, erasure, enumeration, signing: the goals of single parts
	@for part in relay refusal erasure enumeration signing; do echo "== $$part"; $(PY) -m benchmarks.$$part || exit 1; done

schema: venv ## write docs/openapi.yaml, docs/asyncapi.yaml and users/application/schemas/ anew; no event's schema is broken
	@$(PY) manage.py spectacular --file docs/openapi.yaml --validate
	@exec $(PY) -m scripts.event_schemas write

lock: venv ## resolve requirements/*.in into the hash-locked *.txt
	@uv="$(PY) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q"; \
	$$uv requirements/run.in -o requirements/run.txt && $$uv requirements/dev.in -c requirements/run.txt -o requirements/dev.txt && $$uv requirements/soak.in -o requirements/soak.txt \
	&& for peer in djoser fastapi_users; do $$uv benchmarks/peers/$$peer/requirements.in -o benchmarks/peers/$$peer/requirements.txt || exit 1; done

clean: ## stop the servers, and remove their data, caches and .venv
	@test ! -x $(PY) || for folder in $$(ls -d .local/test-* 2>/dev/null) .local/check .local; do $(PY) -m config.embedded destroy --local-dir $$folder; done
	@rm -rf .local .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
