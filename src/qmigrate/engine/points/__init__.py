"""What one point of the next generation is, and whether it is that. It chooses no points and moves no name."""
