"""Asking for work: the composer of goals, what goes with them, and how they are sent."""
