"""Screens for the user's account, and for the administration of users."""
