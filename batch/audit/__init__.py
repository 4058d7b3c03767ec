"""The audit of a local date: three independent counts compared, and the first place named where they part.

planned   what the planners wrote down before Kafka had any of it
Kafka     every outcome in the topic: denials from the planners, answers from delivery
ledger    the rows in PostgreSQL
"""

from batch.audit.account import Account, Audit
from batch.audit.look import audit

__all__ = ["Account", "Audit", "audit"]
