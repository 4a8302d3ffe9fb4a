"""An erasure: points deleted from every place that could bring them back. It builds no generation."""
