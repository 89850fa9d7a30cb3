"""The files of the gateway: objects, where they are kept, and how they are reached."""
