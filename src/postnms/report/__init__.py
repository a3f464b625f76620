"""The report of runs, dumps and comparisons: one HTML file that needs nothing but a browser.

``opening`` opens what a user names, ``sources`` joins what is of one detector, ``measured`` has its
figures, ``chosen`` says which images are shown, ``viewer`` gathers their boxes, ``charts`` draws,
and ``page`` makes the text of the file.
"""
