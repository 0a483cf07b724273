"""What people and their monitoring ask the gateway over HTTP.

``app`` has the paths, ``auth`` says who may ask, ``metrics`` is the text for Prometheus,
``listening`` keeps strangers from holding connections.
"""
