"""The embedders, one module each with ``build(options)``. Only :func:`qmigrate.embed.load` imports them."""
