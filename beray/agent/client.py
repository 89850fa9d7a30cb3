"""Messages of an agent's client, with their published names.

Source: the agent WebSocket API page.
"""

from beray.events import ClientMessage, EClientMessage, MsgUserMessage

__all__ = ["ClientMessage", "EClientMessage", "MsgUserMessage"]
