"""Names of modules that the services of standing clusters were started by, and nothing else.

This machine as a platform is `perennial.platforms.local`.
"""
