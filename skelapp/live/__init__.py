"""The Live panel: picture, skeleton, action cards, timeline and the bar of measured times."""
