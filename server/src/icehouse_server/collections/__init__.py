"""Collection files: the built-in ones, their templates, and the schema and loader of all."""

from icehouse_server.collections.loader import collection_text, parse_collection, read_collections

__all__ = ["collection_text", "parse_collection", "read_collections"]
