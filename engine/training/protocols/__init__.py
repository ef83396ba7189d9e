"""Protocols that judge a pretrained encoder: nearest neighbours, linear evaluation, fine-tuning, few labels, transfer.

Each is a run of its own, linked to its parent by name and digests; its recipe holds every setting its number depends
on.
"""
