"""`surnia simulate`: the load of every part by the hour for a population of any size, without a server."""
