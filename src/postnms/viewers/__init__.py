"""Files for other viewers: rows of detections with cluster ids and types of errors."""
