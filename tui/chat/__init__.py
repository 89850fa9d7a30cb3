"""Chats with an agent: composing and sending messages."""
