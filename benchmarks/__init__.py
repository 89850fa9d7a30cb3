"""Benchmarks against other implementations: ``uv run --group bench python -m benchmarks``.

The results are ratios. On shared and noisy machines, absolute times are not comparable, so the
contenders take turns and each ratio is the median of several rounds.
"""
