"""Benchmarks: a gateway on one core, the load on the other."""
