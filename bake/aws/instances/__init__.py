"""EC2 instances: plan, launch, replace and end them."""
