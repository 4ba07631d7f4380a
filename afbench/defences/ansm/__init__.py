"""ANSM: a network that adds noise to an attacked image so that a forgery localizer sees what it saw before the attack."""
