"""Virtual machines on this computer, and ssh to any machine."""
