"""`python -m casimg`."""

from casimg.cli import main

main()
