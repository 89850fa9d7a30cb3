"""Fixtures of the command's tests that the dashboard's use too."""

from tests.cli.conftest import scripted

__all__ = ["scripted"]
