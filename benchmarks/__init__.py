"""What waiting, moving and importing cost, compared with others in the same run."""
