"""The objectives: each wraps an encoder and owns its loss and its memory; data and the training loop are elsewhere."""
