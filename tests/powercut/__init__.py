"""What a power cut can leave of a file that is written to the local disk: ``make powercut``."""
