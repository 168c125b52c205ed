"""Publish images and launch instances at Amazon EC2. Only this package imports boto3."""
