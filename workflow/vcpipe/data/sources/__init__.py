"""Where cells come from: files of many kinds, opened as one kind of source."""
