"""The registry client: references to remote registries and OCI layouts behind one interface."""
