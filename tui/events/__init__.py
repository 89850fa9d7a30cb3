"""Events of a task as blocks of text in a bounded window, without widgets."""
