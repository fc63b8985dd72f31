"""Networks that predict bone age from a radiograph and the sex."""
