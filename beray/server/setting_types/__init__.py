"""Types of settings and their parsers: networks, addresses, uids, paths."""
