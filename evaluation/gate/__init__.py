"""The validation gate: is a world model good enough to rank policies with?"""
