"""Jobs that train the same students on the same photographs, each a process of its own that prints one line of JSON."""
