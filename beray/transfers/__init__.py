"""File transfers: downloads, uploads, archives, and file names and modes on the wire."""
