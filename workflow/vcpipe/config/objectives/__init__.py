"""pretrain.<run>.<objective>: the settings of each objective, a file each."""
