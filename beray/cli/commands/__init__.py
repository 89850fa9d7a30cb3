"""Command groups, one module per resource."""
