"""Connections of clients: how many, how long, and the syntax of what they send.

``_compat`` is the only module that uses private interfaces of uvicorn and h11.
"""
