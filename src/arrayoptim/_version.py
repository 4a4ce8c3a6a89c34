"""The version, apart so that every shelf may read it."""

__version__ = "0.1.0"
