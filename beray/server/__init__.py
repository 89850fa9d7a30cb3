"""The self-hosted server (extra: ``server``). ``app`` wires it, ``main`` runs it."""
