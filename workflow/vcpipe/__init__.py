"""vcpipe: from single-cell data to a scored virtual-cell model."""

__version__ = "0.1.0"
