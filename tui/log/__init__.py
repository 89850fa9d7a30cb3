"""Log of a task: its events as blocks, of which a bounded window is kept and shown."""
