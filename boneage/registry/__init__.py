"""Where bundles come from by name: MLflow stores with their model registry, and the Hugging Face hub."""
