"""YAML to checked settings."""

from facetx.config.load import check_settings, differences, load_settings, to_yaml
from facetx.config.parts import Part, create
from facetx.config.settings import Settings

__all__ = ["Part", "Settings", "check_settings", "create", "differences", "load_settings", "to_yaml"]
