"""The pipeline: gather, decide, and the steps of one image as a table that an engine runs."""
