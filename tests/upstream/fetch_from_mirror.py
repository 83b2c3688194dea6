"""scripts.fetch_census, but with the list of releases of another server, its first argument."""

import sys

from cellxgene_census import _release_directory

from scripts.fetch_census import main
from vcpipe.config.arguments import run

server = sys.argv.pop(1)
_release_directory.CELL_CENSUS_RELEASE_DIRECTORY_URL = f"{server}/release.json"
_release_directory.CELL_CENSUS_MIRRORS_DIRECTORY_URL = f"{server}/mirrors.json"
run(main)
