"""A Kafka transport for Faust that hands over whole runs of records, shares its polls out evenly between partitions,
and commits only what was handled.

Stock Faust makes a message, an event and an acknowledgement of every record; that is what its 12-14 thousand events/s
are spent on. Here a topic may ask for runs instead (`schema=RunSchema()`): the records of one partition that one poll
brought are one message, acknowledged at once. Other topics are handed over record by record, as ever. How many records
are in memory at most is `IN_HAND` and `POLL`, not the length of a stream's buffer, which counts messages.

    faust.App(…, broker=f"{SCHEME}://localhost:9092")
    app.topic("activity", schema=RunSchema())

It knows nothing of Surnia.
"""

from stream.transport.runs import Run, RunSchema

SCHEME = "kafka+runs"
"""The URL scheme; `register` makes it known."""


def register() -> None:
    """Make the scheme known to Faust. May be called again."""
    from faust.transport.drivers import TRANSPORTS

    TRANSPORTS.aliases[SCHEME] = "stream.transport.driver:Transport"


__all__ = ["SCHEME", "Run", "RunSchema", "register"]
