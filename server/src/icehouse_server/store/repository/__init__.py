"""One collection's Icechunk repository."""
