"""Protects the databases that scans read: how many at once, how large their pages are, how long they rest."""

from batch.pressure.controller import Bounds, Controller
from batch.pressure.pace import Adaptive
from batch.pressure.protected import TooManyTriesError, protected
from batch.pressure.status import DatabasePressure, pressure_status

__all__ = ["Adaptive", "Bounds", "Controller", "DatabasePressure", "TooManyTriesError", "pressure_status", "protected"]
