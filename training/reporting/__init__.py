"""The page that shows the measured scores."""
