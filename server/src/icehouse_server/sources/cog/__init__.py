"""Cloud-Optimised GeoTIFF: headers that are checked, and only the blocks under a window."""
