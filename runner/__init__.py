"""The hands: reads one batch from Kafka, sends its requests, judges the answers, writes results."""

import os
import signal

if os.getpid() == 1:
    # The first process of a container ignores SIGTERM until it handles it, and the imports that follow take a second.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
