"""Bytes of remote files: connections, limits, deadlines, allowed hosts and counters."""
