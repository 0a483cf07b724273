"""The reference cloud store: holds and serves sealed records that it cannot read."""
