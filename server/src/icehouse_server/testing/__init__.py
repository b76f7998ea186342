"""Stand-ins of the world outside, shipped for `icehouse demo`, for tests and for benchmarks.

A PGC-like STAC API and an object store with Cloud-Optimised GeoTIFFs of synthetic terrain, each in a
process of its own, with latency, a bandwidth limit, counters and scripted faults. See
`icehouse_server.testing.standins.StandIns`. `icehouse_server.testing.earth_search.EarthSearchStandIn` is the
like for Earth Search: Sentinel-2 scenes, the Copernicus DEM, and links that expire.
`icehouse_server.testing.daemon.DaemonProcess` is a daemon in a process of its own, to put in front of them.
"""
