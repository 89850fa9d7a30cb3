"""Runner ``model``: a language model does the goal, with tools of ours and MCP servers.

Importing this costs what pydantic-ai costs; import it where a run begins.
"""

from __future__ import annotations

from beray.server.runners.model.retries import Patience
from beray.server.runners.model.runner import ModelRunner

__all__ = ["ModelRunner", "Patience"]
