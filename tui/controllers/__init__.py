"""Controllers of the main screen: plain objects without widgets of their own.

They change the state, run requests in the background and tell the widgets what to show. What they
need from the screen is passed to them, so that they can be tested without an application.
"""
