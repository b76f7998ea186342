"""Pure values and arithmetic: no I/O, no asyncio, no web, no GDAL."""
