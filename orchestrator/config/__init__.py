"""One YAML file, checked."""
