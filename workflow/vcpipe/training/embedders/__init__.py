"""What embedding needs of each objective: one file and one entry of EMBEDDERS each."""
