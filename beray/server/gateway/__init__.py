"""The server as a gateway: prefabs that are run, and the files that go in and come out.

Source: the Gateway wire page.
"""
