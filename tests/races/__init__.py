"""Interruptions, schedules and real threads."""
