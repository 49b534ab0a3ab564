"""What `pulumi up` runs."""

from perennial.stacks.program import main

main()
