"""The JSON schema of the settings, with which an editor completes and checks the YAML.

``python -m facetx.config.schema > configs/schema.json`` writes it anew.
"""

import json

from facetx.config.settings import Settings

SCHEMA_FILE = "configs/schema.json"


def schema_text() -> str:
    """The schema as it stands in ``configs/schema.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
