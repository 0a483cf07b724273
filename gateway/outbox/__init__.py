"""The durable queue between an acknowledged message and its delivery."""
