"""What a person on call types: backfills, and commands that look at all parts at once, Airflow included."""
