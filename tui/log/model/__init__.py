"""Content of the log, without widgets: events, blocks, search, replay."""
