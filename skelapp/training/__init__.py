"""The Training panel: make a recipe, start runs, watch them, stop, resume, copy and delete them."""
