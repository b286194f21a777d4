"""``python -m posekit`` is the command ``posekit``."""

import sys

from posekit.cli import main

sys.exit(main())
