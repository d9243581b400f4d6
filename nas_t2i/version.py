"""The version of this package: in records, in messages, in the distribution."""

__version__ = "0.1.0"
