"""Run virtual machines on this computer, and log in to any machine by ssh."""
