"""`surnia bench deliver`: pushes a second of our engine and path, of three libraries, and of h2load, on one server."""
