"""`python -m testops_lib.cli` is `testops`."""

from testops_lib.cli import main

main()
