"""What makes the site of the documents: ``make docs``. It is no part of the library.

``public_names.py`` lists what is public, ``reference.py`` makes the pages of it, ``hooks.py`` ties
both to MkDocs, and ``docstrings.py`` reads docstrings as this project writes them.
"""
