"""Images: read, as detections, drawn."""
