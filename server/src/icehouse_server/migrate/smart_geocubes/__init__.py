"""Cubes of smart-geocubes: reading them, and taking over their chunks."""
