"""A stand-in for Earth Search: Sentinel-2 scenes, the Copernicus DEM, and links that expire."""
