"""What a machine is given for one app: the lock, the wheels and the archive of a release."""
