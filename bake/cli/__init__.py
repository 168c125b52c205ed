"""The command line: options, commands and how errors are shown. Only this package prints."""
