"""What phases, fixes and audit rows pass on to each other: one frozen dataclass each, and its stored form. No I/O."""
