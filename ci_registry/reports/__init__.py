"""Reports: pure functions from the result of a run to the text that a CI, a person or a tool reads."""
