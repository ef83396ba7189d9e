"""Readers, the store, splits, and the preprocessing shared by training and the live path."""
