"""Offline tools on data: verify, convert, pack, align, split, overlap."""
