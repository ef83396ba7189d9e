"""The Models panel: browse the checkpoints that are here, read their cards, put one to use."""
