"""Pure values: schemas, plans, states and reports as plain JSON in Qdrant's REST shape. No I/O, no client library."""
