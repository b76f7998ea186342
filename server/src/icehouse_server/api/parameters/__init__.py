"""From the text of a request to checked values."""
