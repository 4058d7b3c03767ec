"""What travels through Kafka: strict msgspec types, their JSON, and what makes a message bad."""
