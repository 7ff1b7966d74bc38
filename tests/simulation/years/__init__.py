"""Long simulations: the whole service over days of virtual time among every kind of trouble."""
