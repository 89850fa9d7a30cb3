"""Composer: dialogs to write a goal, attach files and MCP servers, and create the task."""
