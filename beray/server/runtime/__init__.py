"""Process-wide facilities: logging, scheduling, rate limits, memory."""
