"""Runner ``acp``: an agent that speaks the Agent Client Protocol on its standard streams.

Source: https://agentclientprotocol.com (version 1), by the package ``agent-client-protocol``.
"""

from beray.server.runners.acp.runner import AcpRunner

__all__ = ["AcpRunner"]
