"""Turns names in the settings into objects: the one place that knows which class serves which name."""
