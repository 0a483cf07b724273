"""One file a database. Each registers itself under the scheme of its address."""
