"""Accounts: registration, sign-in, passwords, mail, sessions and principals."""
