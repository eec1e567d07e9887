.PHONY: test-fast test lint format types docs wheel

test-fast:
	python -m pytest -m "not slow" -n 2 --dist loadfile

test:
	python -m pytest -n 2 --dist loadfile

lint:
	ruff check .
	ruff format --check .
	codespell

format:
	ruff check --fix .
	ruff format .

types:
	mypy

docs:
	python -m tests.helpers.architecture --write

wheel:
	python -m build
