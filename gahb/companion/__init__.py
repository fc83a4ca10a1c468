"""The companion to the paper: scales, claims, what every notebook does, figures, explorers, report, command line."""
