"""A stand-in for Earth Engine: the unmodified `ee` package computes pixels against it.

`standin.EarthEngineStandIn` starts it in a process of its own; `world` says what is in it and what must come
out. Needs the extra `icehouse-server[earthengine]`: the algorithms come from the installed `ee`.
"""
