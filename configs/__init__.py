"""What can be set: frozen dataclasses and YAML files that hold only what differs."""
