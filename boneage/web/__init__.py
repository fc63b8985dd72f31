"""What the page and the review desk share: safety, login, templates, styles."""
