"""SQL of the SQLite dialect. The SQL of the repositories is portable otherwise."""
