"""`python -m localvertex`."""

from localvertex.cli import main

raise SystemExit(main())
