"""Isolation of commands with bubblewrap, and supervision of every command.

``sandbox`` is the interface for runners and prefabs. ``bubblewrap`` builds the command line of
bwrap. ``launcher`` is the small program between the server and a command.
"""
