"""Database: tables, migrations, repositories, disk space."""
