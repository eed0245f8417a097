"""What a kernel is made of, what can be said against it, and how its rows are weighted."""
