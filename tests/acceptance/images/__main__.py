"""`python -m tests.acceptance.images CACHE`: builds the images and says where they are."""

import sys
from pathlib import Path

from tests.acceptance.images.build import build_images

for name, layout in build_images(Path(sys.argv[1])).items():
    sys.stdout.write(f"{name} {layout}\n")
