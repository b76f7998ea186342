"""Where pixels of one geobox lie on another: affines, CRSs, footprints, levels, distances on the ground."""
