"""Settings from flags, environment, qmigrate.yaml and defaults. They open no store and read no revision."""
