"""The hands: reads one batch from Kafka, sends its requests, judges the answers, writes results."""
