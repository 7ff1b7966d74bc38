"""The production gateway: our PowerShell module on real hosts, over WinRM."""
