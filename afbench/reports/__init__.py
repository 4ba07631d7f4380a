"""Tables, figures and pages, drawn from numbers that others computed."""
