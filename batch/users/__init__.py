"""Users and their devices: import them from files, generate a realistic population, show one of them."""
