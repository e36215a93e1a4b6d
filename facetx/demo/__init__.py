"""A page that runs a model in the browser, on the camera's pictures or on chosen ones; none leaves the machine."""

from facetx.demo.build import Site, build_site, write_static
from facetx.demo.model import PageModel, exported_file, read_model
from facetx.demo.packages import find_packages
from facetx.demo.server import make_server

__all__ = [
    "PageModel",
    "Site",
    "build_site",
    "exported_file",
    "find_packages",
    "make_server",
    "read_model",
    "write_static",
]
