"""The package's version, the only place it is written in."""

__version__ = "0.1.0"
