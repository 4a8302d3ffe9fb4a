"""Whether one search is as good as another one: questions, measures, statistics. It asks no server and no model."""
