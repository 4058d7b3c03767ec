"""Users and their devices: import them from files, generate a realistic population, show one of them."""

from batch.users.load import LoadCounts, load
from batch.users.population import GeneratedUser, Population, user_id
from batch.users.rows import DeviceRow, UserRow

__all__ = ["DeviceRow", "GeneratedUser", "LoadCounts", "Population", "UserRow", "load", "user_id"]
