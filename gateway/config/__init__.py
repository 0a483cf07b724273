"""The configuration: one TOML file, every key with a default, every problem named at once.

``sections`` says what there is, ``loading`` reads a file and the environment, ``documents`` writes
the commented file, the JSON Schema and what is in force.
"""
