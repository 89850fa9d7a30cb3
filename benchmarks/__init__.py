"""Benchmarks, side by side in one run: ``uv run --group bench python -m benchmarks``.

They print ratios. The machines they run on are shared and noisy, so the contenders take
turns and each figure is the median of several rounds.
"""
