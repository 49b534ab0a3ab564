"""What the platforms on AWS share: API client, options, names, prices and checks."""
