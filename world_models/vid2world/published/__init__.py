"""The published checkpoints: their names, their quirks, and how they become models here."""
