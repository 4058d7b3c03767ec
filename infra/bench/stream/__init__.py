"""`surnia bench stream`: the activity path of one worker, beside what one would write and the Kafka client alone."""
