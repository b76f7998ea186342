"""Taking over what other tools have cached."""
