"""The kinds of data fix, one module each, and what runs them. They build no generation."""
