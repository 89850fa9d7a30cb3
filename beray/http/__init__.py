"""HTTP core of all clients: requests, retries, errors, connections, response bodies."""
