"""One module per library: ``make(task)`` makes arrays and an optimizer of it ready to step."""
