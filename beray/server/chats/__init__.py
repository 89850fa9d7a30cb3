"""Chats: lifecycle and history."""
