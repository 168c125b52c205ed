"""Find the cause of an app's failure in its journal, and the line of bake.yaml that fixes it."""
