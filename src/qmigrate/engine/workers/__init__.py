"""A copy by several processes: what they are asked, and how ranges are handed out. It starts none."""
