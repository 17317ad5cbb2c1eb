"""The door, the journal, checkpoints, models, replay and configuration."""
