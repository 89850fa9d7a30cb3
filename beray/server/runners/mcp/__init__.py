"""MCP servers of a task, for the model runner and for ACP agents."""
