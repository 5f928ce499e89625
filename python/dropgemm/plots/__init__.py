"""Pictures of masks, schedules, patterns and products, for the command line."""
