"""What each objective of pretraining can be told: one section and one file each."""
