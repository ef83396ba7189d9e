"""Export and runtimes: the same ``predict`` whatever executes the encoder."""
