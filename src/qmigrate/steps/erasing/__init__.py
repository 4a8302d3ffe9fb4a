"""An erasure's parts: which ids are meant, and every place that they are taken out of. It decides no order."""
