"""Limits that a request is held against before anything is read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may need at most. The field names are the names of the settings."""

    max_output_pixels: int = 64 * 1024 * 1024
    """Pixels of an answer, over all its bands."""
    max_chunks: int = 4096
    """Chunks that one request reads, over all its bands."""
    max_fills: int = 2048
    """Absent chunks that one request has fetched."""
