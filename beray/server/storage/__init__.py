"""Database: tables, migrations, repositories and disk space."""
