"""Content of the log, independent of widgets: events, blocks, search and replay."""
