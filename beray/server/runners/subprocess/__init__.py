"""Runners in subprocesses, one per run, forked from a process with all imports done.

- ``runner``: the runner in the server's process.
- ``worker``: its counterpart in the process of the run.
- ``protocol``: the protocol between these two.
- ``fork_server_process``: the fork server, a program.
- ``fork_server``: the fork server's client in the server's process.
"""
