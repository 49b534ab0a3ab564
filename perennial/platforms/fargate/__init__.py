"""Clusters of ECS services on Fargate."""
