"""Sources of the events that the log shows: live, filtered, and replayed."""
