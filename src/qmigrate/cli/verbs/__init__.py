"""The verbs as click commands, one module per group. Each calls one function of ``commands`` and shows it."""
