"""Settings: typed, frozen, and the only place where a default is written."""
