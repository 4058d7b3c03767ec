"""The local stack behind `surnia up | down | status`: PostgreSQL, Valkey and Apache Kafka on loopback.

Servers come from PyPI wheels and Maven jars; everything they write lies below STATE_DIR. Addresses that the
settings name are used as they are and never started, stopped or emptied.
"""
