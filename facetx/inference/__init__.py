"""Models to use: load from a run, embed, compare, evaluate; and where a photo's faces are."""
