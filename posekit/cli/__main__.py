"""``python -m posekit.cli`` is the command ``posekit``, too."""

import sys

from posekit.cli import main

sys.exit(main())
