"""How a collection lies in its repository: groups, arrays, codec, metadata documents."""
