"""The ways from an app to a machine: a document to paste, a push to a running one, a trial on this computer."""
