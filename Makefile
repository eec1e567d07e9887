.PHONY: test-fast test test-plan lint format types docs wheel

test-fast:
	python -m pytest -m "not slow" -n 2 --dist loadfile

test:
	python -m pytest -n 2 --dist loadfile

# Compilers of GPUs and TPUs, half a gigabyte; they make every start of JAX noisy, so they are not part of [test].
test-plan:
	pip install -e '.[test,plan-gpu,plan-tpu]'
	JAX_PLATFORMS=cpu python -m pytest -m topology

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
