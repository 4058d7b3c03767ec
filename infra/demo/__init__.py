"""The demo: a simulated day of a world-wide population, over the real engine and real servers."""
