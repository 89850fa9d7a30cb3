"""Runner ``acp``: runs an agent program that implements the Agent Client Protocol on stdio.

Source: https://agentclientprotocol.com (version 1), through the package
``agent-client-protocol``.
"""

from beray.server.runners.acp.runner import AcpRunner

__all__ = ["AcpRunner"]
