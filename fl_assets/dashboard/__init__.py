"""Read-only pages over what the coordinator may read: documents, and never a row."""
