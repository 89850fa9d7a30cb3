"""Type of the two streams between an MCP session and its transport.

This is the only module that uses a private interface of the MCP SDK: its public modules use this
type in signatures, but do not export it.
"""

from mcp.client._transport import TransportStreams

__all__ = ["TransportStreams"]
