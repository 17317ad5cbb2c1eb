"""The only way out: an allow-list, a proxy on a socket of its own, and what it lets through."""
