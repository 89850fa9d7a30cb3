"""Runners in subprocesses, one per run, forked from a process with all imports done.

- ``remote``: the runner in the server's process.
- ``child``: its counterpart in the process of the run.
- ``frames``: the protocol between these two.
- ``nursery``: the fork server, a program.
- ``forks``: the fork server's client in the server's process.
"""
