"""Operations as text and JSON, and back: what writes revision files and compares what they say. It writes no file."""
