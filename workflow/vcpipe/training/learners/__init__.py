"""What each objective of pretraining needs of a corpus: one file and one entry of LEARNERS each."""
