"""Vid2World: a causal, action-conditioned video diffusion model (arXiv 2505.14357)."""
