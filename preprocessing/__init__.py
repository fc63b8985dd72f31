"""From a radiograph file to a clean, square crop in a record folder."""
