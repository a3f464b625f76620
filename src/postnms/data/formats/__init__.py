"""One file for each format of annotations, and the checks that they share."""
