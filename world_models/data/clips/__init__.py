"""Training clips: their order, batches, augmentation and cached latents."""
