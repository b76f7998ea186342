"""What every request passes before it reaches a route.

Pure ASGI: a wrapper that reads the answer's body would copy it.
"""
