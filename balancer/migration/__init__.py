"""The formulas of live migration: pure, shared by planner, simulator and reports."""
