"""A coordinator with a team, and coordinators of coordinators."""
