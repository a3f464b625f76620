"""The built-in data set of crowded scenes.

``generator`` arranges the scenes and derives their annotations. ``shapes`` draws one object.
"""
