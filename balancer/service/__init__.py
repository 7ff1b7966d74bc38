"""What runs for long: the daemon, its loops over the clusters, and who listens to them."""
