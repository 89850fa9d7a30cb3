"""Programs for the development of BeRay."""
