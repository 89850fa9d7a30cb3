"""Inputs, results and errors of prefab calls."""
