"""What the models reach and what the machinery costs: run with ``python -m benchmarks.<name>``."""
