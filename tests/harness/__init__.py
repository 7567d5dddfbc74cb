"""What the tests share: paths, workloads, the two readers of profiles, perf, processes.

Fixtures over these live in tests/conftest.py; tests/bench uses the modules directly.
"""
