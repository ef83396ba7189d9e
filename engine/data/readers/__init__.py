"""One module per raw archive and per interchange format; each opens a path and gives a :class:`RawSource`."""
