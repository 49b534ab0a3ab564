"""A Kubernetes cluster: a Deployment for each group, rendered as plain manifests."""
