"""ANSM: a network that adds noise of its own so that a forgery localizer sees what it saw before an attack."""
