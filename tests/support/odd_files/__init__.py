"""A table of odd GeoTIFFs, each a few kilobytes, and what is right for it.

A row is one call of ``odd`` in the ``ROWS`` of ``validity``, ``layouts``, ``places`` or ``systems``::

    odd("mask-float", geotiff(HEIGHTS, mask=SHOWN), nodata=-9999)

``tests/contract/sources/test_odd_files.py`` writes it, reads it through every source and path, and holds
what comes to ``right``: rasterio's reading, put in its place on ``GRID``. ``OddFile`` holds what a row may
say: the collection's band (``dtype``, ``nodata``, ``index``, ``scale``, ``offset``), what the item document
says of the asset (``document``), to which ``paths`` it is fed where not to all (some rows have no meaning
for a path), and ``error``, a pattern for the text of the ``SourceCorruptError``, where an error is what is
right. Where rasterio itself is wrong, or can't say, ``values`` and ``valid`` of a row say what is.

A file is written by a function of a path and of creation options, ``TILED`` or ``STRIPED``: async-geotiff
reads the one and GDAL the other. ``geotiff`` makes such functions; one that ignores the options serves as
well, for layouts of its own. Files lie at ``AFFINE``, which is on ``GRID`` but does not fill it.
"""

from support.odd_files import dtypes, layouts, places, systems, validity

ODD_FILES = (*validity.ROWS, *layouts.ROWS, *places.ROWS, *dtypes.ROWS, *systems.ROWS)
