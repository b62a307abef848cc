"""Features for classifiers of tables, and the choices behind the defaults."""
