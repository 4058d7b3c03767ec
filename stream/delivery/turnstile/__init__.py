"""The turnstile that every send to a provider goes through: a pacer and a circuit breaker, shared by all workers.

`contract.py` says what it promises, `redis.py` and `lua/` are how; nothing is imported here, because the command line
imports this package at every start.
"""
