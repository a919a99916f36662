"""Images: reading them, their detections, drawing."""
