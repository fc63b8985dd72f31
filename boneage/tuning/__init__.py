"""Search for the best head with KerasTuner."""
