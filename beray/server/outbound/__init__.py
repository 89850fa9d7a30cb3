"""Requests that the server makes to URLs its users supply: which addresses they may reach."""
