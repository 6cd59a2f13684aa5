"""Dockerfiles and ignore files read exactly as BuildKit reads them; text in, values out, no files touched."""
