"""Settings: frozen dataclasses, and YAML files that hold only what differs from them."""
