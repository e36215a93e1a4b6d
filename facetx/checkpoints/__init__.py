"""What lies on disk of a model: whole folders, weights of others, and a backbone made of them."""
