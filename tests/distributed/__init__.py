"""``make e2e-distributed``: many restorations on a small cluster of this machine's own, part of it killed."""
