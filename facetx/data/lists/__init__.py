"""Text files: image lists, pairs and protocols, landmarks, IJB's lists."""
