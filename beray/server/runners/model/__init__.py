"""Runner ``model``: a language model executes the goal with built-in tools and MCP servers.

Importing this package imports pydantic-ai, which takes seconds. Only the processes of runs do.
"""

from __future__ import annotations

from beray.server.runners.model.retries import RetryPolicy
from beray.server.runners.model.runner import ModelRunner

__all__ = ["ModelRunner", "RetryPolicy"]
