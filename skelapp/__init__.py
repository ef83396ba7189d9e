"""The window: everything that is Qt, and nothing that is not. It calls the engine and shows what comes back."""
