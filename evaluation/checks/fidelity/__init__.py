"""How much a cheaper way of sampling changes what a world model imagines, with the same noise."""
