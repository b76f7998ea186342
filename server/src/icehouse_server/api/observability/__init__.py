"""Metrics, and what the log line of a request says."""
