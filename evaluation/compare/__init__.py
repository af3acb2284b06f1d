"""Simulated success rates against real ones: rates, statistics, and what they support."""
