"""A small real archive cut from Blue Marble, with simulated astronaut photographs."""
