"""The simulated cluster: a product of its own, reached in process or over real WinRM."""
