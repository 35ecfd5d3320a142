"""What happens around every request, from its connection to its route."""
