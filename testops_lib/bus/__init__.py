"""Cases, plans, results, orders and dead letters over Kafka. `batch` and `topics` need no Kafka."""
