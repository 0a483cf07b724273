"""The roster: which devices belong here and which people may read what."""
