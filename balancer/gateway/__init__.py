"""The edge towards Hyper-V: one protocol, two implementations that do not know each other."""
