"""Version of this project: above 0.1.2, the last version of the client on the package index."""

__version__ = "0.2.0"
