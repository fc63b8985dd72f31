"""MLflow stores, and the bundles in their model registry."""
