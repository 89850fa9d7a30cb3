"""HTTP client and address policy for requests of the server to URLs that users supply."""
