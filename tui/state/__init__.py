"""State of the dashboard, without widgets."""
