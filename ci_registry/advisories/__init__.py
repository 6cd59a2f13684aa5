"""Advisory databases: read, written and matched against packages."""
