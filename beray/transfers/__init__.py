"""File transfers: uploads, downloads, directories, archives."""
