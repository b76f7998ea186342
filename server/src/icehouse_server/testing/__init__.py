"""For the tests of those who build on Icehouse: what a source must keep, a daemon, and fakes.

`source_conformance` has a test class that every source inherits; `daemon.DaemonProcess` is a daemon in a
process of its own; `fakes` has a scripted source and a sink in memory.
"""
