"""Local stack, provider simulator, Airflow set-up and the demo: everything around the engine."""
