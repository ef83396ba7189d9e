"""The backbones, one file each, and the card that says what a trained one is."""
