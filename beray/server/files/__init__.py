"""HTTP ranges and file responses, shared by workspaces and objects."""
