"""What one try of a task does: upload, start a generation, wait, download; and what it records of that."""
