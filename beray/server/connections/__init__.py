"""Connections of clients: their number and duration, and the syntax of their requests.

``_compat`` is the only module that uses private interfaces of uvicorn and h11.
"""
