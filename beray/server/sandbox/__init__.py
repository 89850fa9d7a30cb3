"""Isolation of commands: bubblewrap where it works, supervision everywhere.

``sandbox`` is the interface for runners and prefabs, ``bubblewrap`` builds the command line of
bwrap, and ``launcher`` is the small program between the server and a command.
"""
