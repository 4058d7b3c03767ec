"""The batch path: plan and scan silent users in PostgreSQL; plain Python with no Airflow in it."""
