"""From values to the bytes and headers of an answer."""
