"""Where the members of groups are: what a platform's options and fleets are made of."""
