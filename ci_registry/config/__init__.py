"""Settings: the one list of them (`model`), their readers, precedence, and the JSON schema."""
