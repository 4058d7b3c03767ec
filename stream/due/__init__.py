"""The due index: who is to be reminded when, and the loop that fires what is due."""
