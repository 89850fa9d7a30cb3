"""Prefabs: looked at, called by a form that is made from their schema, and watched."""
