"""Program between the server and a sandboxed command. Standard library only, POSIX only.

``python -I -S PATH/launcher CONTROL`` runs ``__main__``, which finds its sibling modules by
their plain names; the server imports them as ``beray.server.sandbox.launcher.…``.
"""
