"""The rules of reminding: kinds, local time, windows. Pure functions, no servers."""
