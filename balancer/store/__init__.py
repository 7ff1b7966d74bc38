"""What must be remembered: journal, leases, history, plans; SQLAlchemy Core behind one door."""
