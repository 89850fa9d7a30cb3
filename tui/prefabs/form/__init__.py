"""Form for the parameters of a prefab function."""
