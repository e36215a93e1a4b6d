"""Bytes: encoded images, RecordIO, data-only pickles, mapped files."""
