"""`pulumi-resource-perennial`: the project's own resources, which Pulumi's engine runs."""
