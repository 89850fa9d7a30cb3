"""Program between the server and a command. Standard library only, POSIX only.

``python -I -S PATH/launcher CONTROL`` runs ``__main__``, which imports its sibling modules by
their plain names; the server imports them as ``beray.server.sandbox.launcher.…``. The modules do
not use pathlib, because its import would delay every command.
"""
