"""The page and the REST interface that read radiographs."""
