"""Tests of the workspace history."""
