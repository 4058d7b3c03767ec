"""Faults to inject: which requests and connections they hit, and what happens to those.

A rule file is a JSON list of rules; an admin call (`PUT /admin/faults`) replaces it while the simulator runs. Rules are
tried in order, the first that ends a request ends the search, latencies add up on the way. Examples:

    {"provider": "apns", "percent": 1, "reason": "Unregistered"}
    {"provider": "fcm", "reason": "QUOTA_EXCEEDED", "free_a_day": 1000}
    {"latency_ms": {"shape": "lognormal", "p50": 40, "p99": 900}}
    {"provider": "apns", "limit": 3, "transport": {"fault": "reset", "when": "after"}}
    {"transport": {"fault": "one_stream_until_authorised"}}

`rule.py` has the conditions, `latency.py` the distributions, `transport.py` what goes wrong below HTTP.
"""

from infra.simulator.faults.armed import Faults, Terms, Verdict
from infra.simulator.faults.rule import Fault, decode_faults, picked, read_faults

__all__ = ["Fault", "Faults", "Terms", "Verdict", "decode_faults", "picked", "read_faults"]
