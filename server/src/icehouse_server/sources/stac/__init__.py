"""The source for STAC APIs."""
