"""Instance segmentation: objects with masks or keypoints."""
