"""`surnia bench scan`: the batch path beside a first version and beside PostgreSQL alone."""
