"""HTTP transport shared by all clients: requests, retries, errors, connections and bodies."""
