"""What the literature's networks share."""
