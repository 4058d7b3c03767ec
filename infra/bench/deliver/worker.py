"""A delivery worker as `surnia worker delivery` runs it, which also says what it has used: orders in, reports out."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO

from infra.bench.deliver.report import Report, answers_only, cpu_seconds, encode, peak_rss_mb
from shared.settings import load_settings
from stream.app import Role
from stream.worker import run


def _answer(answers: BinaryIO) -> None:
    # Not sys.stdin: Python could not end while another thread waits in its buffer.
    while os.read(0, 4096):
        answers.write(encode(Report(0, cpu_seconds(), peak_rss_mb())) + b"\n")


if __name__ == "__main__":
    threading.Thread(target=_answer, args=(answers_only(),), daemon=True).start()
    run(load_settings(), Role.delivery)
