"""What Qdrant's parameter objects may hold, read from the client's models when first asked. It sends no request."""
