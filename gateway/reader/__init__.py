"""The recipient's side: fetch sealed records from the cloud store, verify, open, show."""
