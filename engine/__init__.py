"""The work: skeletons, data, models, training, deployment and the live path, usable without any window."""

__version__ = "0.1.0"
