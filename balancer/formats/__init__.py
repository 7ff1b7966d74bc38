"""Documents: snapshots, plans and their JSON Schemas, nouns to JSON and back."""
