"""From rasters on grids of their own to the pixels of one block: warps, reducers, holes."""
