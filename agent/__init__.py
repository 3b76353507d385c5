"""The agent: measures a site and publishes what it saw."""

__version__ = "0.1.0"
