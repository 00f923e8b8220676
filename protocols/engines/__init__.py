"""How messages travel between institutions and the server."""
