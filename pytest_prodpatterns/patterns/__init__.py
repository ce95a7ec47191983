"""Production components that hold what the guide sketches; each runs in production as it is."""
