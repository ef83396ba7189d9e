"""The Data panel: which datasets are here, preparing them, looking at every sequence, counting and checking."""
