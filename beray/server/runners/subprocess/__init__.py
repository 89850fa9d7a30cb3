"""A process of its own for each run: forked from one that has imported what runs need.

``remote`` is the server's half of a run and ``child`` the other; ``frames`` is what goes
between them. ``nursery`` is the process that is forked, ``forks`` how the server has it.
"""
