"""The report of runs, dumps and comparisons: one HTML file that needs nothing but a browser.

``sources`` opens what a user names, ``measured`` and ``images`` say what is to be shown, ``viewer``
gathers the boxes of the chosen images, ``charts`` draws, and ``page`` writes the file.
"""
