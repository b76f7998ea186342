"""The source for folders of local GeoTIFFs."""
