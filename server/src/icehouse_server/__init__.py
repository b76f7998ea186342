"""Icehouse: a local cache daemon for remote Earth-observation rasters."""
