"""A client of a gateway: prefabs that are called, and the files that go in and come out."""
