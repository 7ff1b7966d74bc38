"""The executor: carries out a plan and decides nothing except whether it is still safe."""
