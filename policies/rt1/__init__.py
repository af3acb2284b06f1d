"""RT-1: a transformer that turns frames and an instruction into binned actions."""
