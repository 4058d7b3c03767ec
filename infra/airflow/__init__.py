"""Airflow beside the local stack: its environment, its setup, its processes, and a runner of single DAG runs.

Its metadata lives in the database `airflow` next to Surnia's own; what it writes to disk lies in STATE_DIR/airflow.
"""
