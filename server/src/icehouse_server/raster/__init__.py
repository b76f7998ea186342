"""What sources and output both need of GDAL and of pixels: CRSs, warp options, validity. Knows neither."""
