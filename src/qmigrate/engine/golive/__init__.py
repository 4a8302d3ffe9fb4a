"""Moves a name to another generation, forwards and backwards. It deletes no collection itself."""
