"""Charts of a report as SVG text, in the colours of the page and without a script.

Every chart is drawn for a given width, so that its text has the size of the text around it. The
page holds a wide and a narrow one, and shows the one that fits.
"""
