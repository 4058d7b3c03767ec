"""PostgreSQL: the tables, their migrations, and connections to them."""
