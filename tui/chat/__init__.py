"""Talking with an agent: what is said in a chat, and how it gets there."""
