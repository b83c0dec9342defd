"""The ledger: a directory in any store with one small record for each restoration."""
