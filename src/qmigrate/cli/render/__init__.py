"""Results for people, one module per group of verbs. They print to a given console and decide nothing."""
