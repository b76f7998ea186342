"""The source for Google Earth Engine."""
