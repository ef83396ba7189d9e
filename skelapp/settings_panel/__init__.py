"""The Settings panel: a form made from the settings model; every change acts at once and can be undone."""
