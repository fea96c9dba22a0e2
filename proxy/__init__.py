"""Pictor's server: the only part that does I/O."""

__version__ = "0.1.0"
