"""Suppressors: candidates in, detections out."""
