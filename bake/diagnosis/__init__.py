"""What ended an app, found in its journal, and the line of bake.yaml that cures it."""
