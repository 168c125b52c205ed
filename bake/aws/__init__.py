"""Images and machines at Amazon's EC2. Only here is boto3 known."""
