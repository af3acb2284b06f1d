"""Is a policy good, how sure is that, and how far can a world model be trusted with the answer?"""
