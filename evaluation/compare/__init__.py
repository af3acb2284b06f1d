"""How well do simulated success rates agree with real ones, and what does that support?"""
