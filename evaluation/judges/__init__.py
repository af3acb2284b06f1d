"""Does a judge fit what it will see, and how good is one that was trained?"""
