"""Strict upstreams over real sockets. Each refuses what the real service refuses."""
