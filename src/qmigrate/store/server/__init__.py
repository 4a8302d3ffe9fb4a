"""A Qdrant server as a store: REST for administration, gRPC for points. It decides nothing."""
